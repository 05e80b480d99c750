"""E-mail addresses and user names in every script and spelling: two that compare equal are one account."""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncIterator

import pytest

from tests.api.world import PASSWORD, World, open_world
from zlh.model.names import comparison_key
from zlh.store import accounts

UNLIMITED = {"attempts_per_account": 10_000, "attempts_per_address": 100_000}

SAME_EMAILS = [
    ("ada@example.com", "ADA@EXAMPLE.COM"),
    ("ada@example.com", "\uff41\uff44\uff41@example.com"),
    ("ada@example.com", "  ada@example.com\u3000"),
    ("stra\u00dfe@example.com", "STRASSE@example.com"),
    ("stra\u00dfe@example.com", "stra\u1e9ee@example.com"),
    ("caf\u00e9@example.com", "cafe\u0301@example.com"),
    ("kelvin@example.com", "\u212aelvin@example.com"),
    ("fish@example.com", "\ufb01sh@example.com"),
    ("\u03c3\u03c2@example.com", "\u03a3\u03a3@example.com"),
    ("ada@b\u00fccher.example", "ada@B\u00dcCHER.example"),
    ("\u01c6@example.com", "\u01c4@example.com"),
    ("ada@ex\u00aample.com", "ada@example.com"),
]
OTHER_EMAILS = [
    ("ada@example.com", "\u0430da@example.com"),
    ("i@example.com", "\u0131@example.com"),
    ("i@example.com", "\u0130@example.com"),
    ("e@example.com", "e\u0301@example.com"),
    ("ada@example.com", "ada+x@example.com"),
    ("ada@example.com", "a.da@example.com"),
    ("o@example.com", "\u00f8@example.com"),
]
REFUSED_EMAILS = [
    "",
    "@",
    "@example.com",
    "ada@",
    "ada@localhost",
    "ada@@example.com",
    "ada\uff20example.com",
    "ada@example\uff0ecom",
    "ada@exa\u200bmple.com",
    "a\u200dda@example.com",
    "\u202eada@example.com",
    "\u200fada@example.com",
    "\ufeffada@example.com",
    "a\u00adda@example.com",
    "ada@example.com.",
    "ada@example..com",
    "ada@.example.com",
    "a da@example.com",
    "a\u00a0da@example.com",
    "\U0001f4a9@\U0001f4a9.example",
    "ada@example.com\r\nBcc: eve@example.com",
    "ada@example.com\x00",
    "Ada <ada@example.com>",
    "ada@example.com,eve@example.com",
    "ada@example.com;eve@example.com",
    '"a b"@example.com',
    "ada@[127.0.0.1]",
    "x" * 243 + "@example.com",
    # What compares equal to something that would be refused is refused.
    "ada@example.com\uff0ceve@example.com",
    "a\uff20b@example.com",
    "a\uff1cb\uff1e@example.com",
    "a\u037eb@example.com",
    "\ufdfa@example.com",
    "x" * 65 + "@example.com",
]
REFUSED_NAMES = [
    "",
    "ad",
    "a" * 33,
    "\u0430da",
    "\uff41\uff44\uff41",
    "ad\u0430",
    "stra\u00dfe",
    "\u0130da",
    "\u0131da",
    "ada\u200b",
    "a\u200dda",
    "\u202eada",
    "ada\u0301",
    "\U0001f4a9\U0001f4a9\U0001f4a9",
    "ada.",
    ".ada",
    "-ada",
    "a da",
    "a\u00a0da",
    "ada\nada",
    "ada\x00",
    "ada@example.com",
    "ada/../eve",
    "a'da",
    "<b>a</b>",
    "\u0661\u0662\u0663",
]


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    async with open_world(postgres_url, **UNLIMITED) as world:
        yield world


async def register(world: World, email: str, username: str) -> tuple[int, str]:
    body = {"email": email, "username": username, "password": PASSWORD}
    answer = await world.call("POST", "/api/auth/register", json=body)
    return answer.status, answer.json.get("code", "")


async def who(world: World, identifier: str) -> int | None:
    """Whom that identifier signs in, None where nobody."""
    body = {"identifier": identifier, "password": PASSWORD}
    answer = await world.call("POST", "/api/auth/login", json=body)
    assert answer.status in (200, 400, 401), answer.raw
    found: int | None = answer.json["user"]["id"] if answer.status == 200 else None
    return found


@pytest.mark.parametrize(("first", "second"), SAME_EMAILS)
async def test_two_spellings_that_compare_equal_are_one_account(world: World, first: str, second: str) -> None:
    assert comparison_key(first) == comparison_key(second)
    assert await register(world, first, "first") == (201, "")
    assert (await register(world, second, "second"))[1] in ("taken", "invalid")
    assert await who(world, first) == await who(world, second) is not None
    assert len(await world.services.database.run(accounts.all_accounts)) == 1


@pytest.mark.parametrize(("first", "second"), OTHER_EMAILS)
async def test_two_that_only_look_alike_are_two(world: World, first: str, second: str) -> None:
    assert await register(world, first, "first") == (201, "")
    assert await register(world, second, "second") == (201, "")
    found = {await who(world, first), await who(world, second)}
    assert len(found) == 2
    assert None not in found


@pytest.mark.parametrize("email", REFUSED_EMAILS)
async def test_what_is_no_address_is_refused(world: World, email: str) -> None:
    assert await register(world, email, "somebody") == (400, "invalid")
    assert await who(world, email) is None
    assert await world.services.database.run(accounts.all_accounts) == []


@pytest.mark.parametrize("username", REFUSED_NAMES)
async def test_user_names_are_plain(world: World, username: str) -> None:
    """No name can be mistaken for another one's, whatever the font."""
    assert await register(world, "ada@example.com", username) == (400, "invalid")
    assert await world.services.database.run(accounts.all_accounts) == []


async def test_a_user_name_in_any_case_and_width(world: World) -> None:
    assert await register(world, "ada@example.com", "Ada.L-1_x") == (201, "")
    for spelling in ("ada.l-1_x", "ADA.L-1_X", "\uff21da.L-1_x", " Ada.L-1_x ", "Ada.L-1\uff3fx"):
        assert await who(world, spelling) is not None, spelling
        assert (await register(world, "eve@example.com", spelling.strip()))[0] in (400, 409)
    for other in ("Ada.L-1_", "Ada.L-1_xx", "\u0410da.L-1_x", "Ada.L\u20101_x", "Ada L-1_x"):
        assert await who(world, other) is None, other


async def test_the_longest_that_are_allowed(world: World) -> None:
    domain = ".".join(["d" * 60, "e" * 60, "f" * 60]) + ".com"
    longest = "x" * 64 + "@" + domain + "m" * (254 - 65 - len(domain))
    assert len(longest) == 254
    assert await register(world, longest, "x" * 32) == (201, "")
    assert await who(world, longest) == await who(world, "X" * 32) is not None
    assert await register(world, longest + "m", "other") == (400, "invalid")


async def test_a_spelling_is_kept_as_it_was_typed_but_for_its_form(world: World) -> None:
    typed = unicodedata.normalize("NFD", "Caf\u00e9@B\u00fccher.example")
    assert await register(world, typed, "cafe") == (201, "")
    (kept,) = await world.services.database.run(accounts.all_accounts)
    assert kept.email == "Caf\u00e9@B\u00fccher.example"
