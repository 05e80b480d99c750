from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import bcrypt
import pytest
import trio

from tests.accounts.house import PASSWORD, House, principal_of, register
from zlh.accounts import Passwords, SignedIn
from zlh.model.accounts import Role
from zlh.model.errors import ConflictError, ForbiddenError, TooManyError, UnauthenticatedError
from zlh.store import accounts as rows
from zlh.store import sessions


async def test_register_login_logout(house: House) -> None:
    people = await house.open(default_plan="starter")
    signed = await register(people)
    assert signed.account.plan == "starter"
    assert signed.account.role is Role.CUSTOMER
    assert people.access.principal(signed.token).account_id == signed.account.id
    for identifier in ("ada", "ADA", " ada ", "Ada@Example.COM"):
        again = await people.sign_in.login(identifier=identifier, password=PASSWORD)
        assert again.account.id == signed.account.id
    principal = people.access.principal(again.token)
    await people.sessions.sign_out(principal)
    await people.sessions.sign_out(principal)
    with pytest.raises(UnauthenticatedError):
        people.access.principal(again.token)
    with pytest.raises(UnauthenticatedError):
        await people.sign_in.refresh(again.refresh_token)
    assert people.access.principal(signed.token)


async def test_taken_names_say_which(house: House) -> None:
    people = await house.open()
    await register(people)
    with pytest.raises(ConflictError) as caught:
        await people.sign_in.register(email="ADA@example.com", username="other", password=PASSWORD)
    assert caught.value.code == "taken"
    assert caught.value.details == {"fields": ["email"]}


async def test_registration_can_be_closed(house: House) -> None:
    with pytest.raises(ForbiddenError):
        await register(await house.open(registration=False))


async def test_unknown_and_wrong_say_and_cost_the_same(house: House) -> None:
    passwords = Passwords(memory_kib=8192, passes=2, lanes=1, threads=1)
    people = await house.open(passwords, attempts_per_account=1000, attempts_per_address=1000)
    await register(people)
    costs = {"ada": 9.0, "nobody": 9.0}
    words = set()
    # In turn, and the best of each: what else the machine does is not what is measured.
    for identifier in ("ada", "nobody") * 12:
        began = time.perf_counter()
        with pytest.raises(UnauthenticatedError) as caught:
            await people.sign_in.login(identifier=identifier, password="wrong password")
        costs[identifier] = min(costs[identifier], time.perf_counter() - began)
        words.add((caught.value.message, caught.value.code))
    assert len(words) == 1
    assert 0.4 < costs["ada"] / costs["nobody"] < 2.5


async def test_attempts_are_limited_before_hashing(house: House) -> None:
    people = await house.open(attempts_per_account=3, attempts_per_address=5)
    await register(people)
    for _ in range(3):
        with pytest.raises(UnauthenticatedError):
            await people.sign_in.login(identifier="ada", password="wrong password", address="192.0.2.1")
    with pytest.raises(TooManyError) as caught:
        await people.sign_in.login(identifier="ADA", password=PASSWORD, address="192.0.2.2")
    assert (caught.value.retry_after or 0) > 0
    with pytest.raises(UnauthenticatedError):
        await people.sign_in.login(identifier="bob", password="wrong password", address="192.0.2.1")
    with pytest.raises(UnauthenticatedError):
        await people.sign_in.login(identifier="cid", password="wrong password", address="192.0.2.1")
    with pytest.raises(TooManyError):
        await people.sign_in.login(identifier="dan", password="wrong password", address="192.0.2.1")


async def test_refresh_rotates_and_reuse_ends_the_family(house: House) -> None:
    people = await house.open()
    first = await register(people)
    second = await people.sign_in.refresh(first.refresh_token)
    assert second.account == first.account
    # A second tab that refreshed at the same moment is let in for some seconds.
    await people.sign_in.refresh(first.refresh_token)
    house.clock.now += timedelta(seconds=11)
    with pytest.raises(UnauthenticatedError):
        await people.sign_in.refresh(first.refresh_token)
    with pytest.raises(UnauthenticatedError):
        await people.sign_in.refresh(second.refresh_token)
    with pytest.raises(UnauthenticatedError):
        people.access.principal(second.token)


async def test_two_clients_with_one_refresh_token_at_once(house: House) -> None:
    people = await house.open()
    first = await register(people)
    got: list[SignedIn] = []

    async def refresh() -> None:
        got.append(await people.sign_in.refresh(first.refresh_token))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refresh)
        nursery.start_soon(refresh)
    assert len({signed.refresh_token for signed in got}) == 2


@pytest.mark.parametrize("token", ["", "x", "\udcff", "' OR 1=1 --", "x" * 5000])
async def test_nonsense_refresh_tokens(house: House, token: str) -> None:
    with pytest.raises(UnauthenticatedError):
        await (await house.open()).sign_in.refresh(token)


async def test_a_refresh_token_expires(house: House) -> None:
    people = await house.open(refresh_token_days=1)
    first = await register(people)
    house.clock.now += timedelta(days=1, seconds=1)
    with pytest.raises(UnauthenticatedError):
        await people.sign_in.refresh(first.refresh_token)


async def test_hashes_are_renewed_when_parameters_change(house: House) -> None:
    signed = await register(await house.open())
    stronger = Passwords(memory_kib=128, passes=2, lanes=1, threads=1)
    assert stronger.outdated(signed.account.password_hash)
    people = await house.open(stronger)
    again = await people.sign_in.login(identifier="ada", password=PASSWORD)
    assert not stronger.outdated(again.account.password_hash)
    assert (await people.sign_in.login(identifier="ada", password=PASSWORD)).account == again.account


@pytest.mark.parametrize("prefix", [b"2a", b"2b", b"2y"])
async def test_bcrypt_hashes_sign_in_and_become_argon2id(house: House, prefix: bytes) -> None:
    people = await house.open()
    long = "ä long password, " * 6
    for name, password in (("ada", PASSWORD), ("bob", long)):
        account = (await register(people, name)).account
        old = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4, prefix=b"2b")).replace(
            b"$2b$", b"$%s$" % prefix
        )
        await house.database.run(rows.set_password_hash, account.id, old.decode())
        with pytest.raises(UnauthenticatedError):
            await people.sign_in.login(identifier=name, password=password[:-1][1:])
        for _ in range(2):
            signed = await people.sign_in.login(identifier=name, password=password)
            assert signed.account.password_hash.startswith("$argon2id$")


async def test_many_at_once_with_an_old_hash_all_get_in(house: House) -> None:
    people = await house.open()
    account = (await register(people)).account
    old = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    await house.database.run(rows.set_password_hash, account.id, old)
    got: list[SignedIn] = []

    async def sign_in() -> None:
        got.append(await people.sign_in.login(identifier="ada", password=PASSWORD))

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(sign_in)
    assert len({signed.refresh_token for signed in got}) == 6


class Watched(Passwords):
    """Calls `meanwhile` once, after a password was verified and before anything else happens."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def verify(self, stored: str | None, password: str) -> bool:
        right = await super().verify(stored, password)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return right


async def test_a_password_that_is_changed_while_it_is_verified_opens_nothing(house: House) -> None:
    passwords = Watched(memory_kib=64, passes=1, lanes=1, threads=2)
    people = await house.open(passwords)
    account = (await register(people)).account
    changed = await passwords.hash("another password")
    passwords.meanwhile = lambda: house.database.run(rows.set_password_hash, account.id, changed)
    with pytest.raises(UnauthenticatedError) as caught:
        await people.sign_in.login(identifier="ada", password=PASSWORD)
    assert caught.value.code == "wrong_credentials"
    assert len(await house.database.run(sessions.active, account.id, house.clock())) == 1


async def test_a_disabled_account_is_as_one_with_another_password(house: House) -> None:
    passwords = Watched(memory_kib=64, passes=1, lanes=1, threads=2)
    people = await house.open(passwords)
    signed = await register(people)
    with pytest.raises(UnauthenticatedError) as wrong:
        await people.sign_in.login(identifier="ada", password="wrong password")
    passwords.meanwhile = lambda: house.database.run(rows.disable, signed.account.id, house.clock())
    for _ in range(2):  # disabled while the password is verified, and before
        with pytest.raises(UnauthenticatedError) as caught:
            await people.sign_in.login(identifier="ada", password=PASSWORD)
        assert (caught.value.message, caught.value.code) == (wrong.value.message, wrong.value.code)
    with pytest.raises(UnauthenticatedError) as ended:
        await people.sign_in.refresh(signed.refresh_token)
    assert ended.value.code == "signed_out"
    await house.database.run(rows.enable, signed.account.id)
    assert (await people.sign_in.refresh(signed.refresh_token)).account.id == signed.account.id


async def test_email_and_user_name_share_their_attempts(house: House) -> None:
    people = await house.open(attempts_per_account=4)
    await register(people, address="192.0.2.9")
    for identifier in ("ada", "ada@example.com", "ADA", "Ada@Example.com"):
        with pytest.raises(UnauthenticatedError):
            await people.sign_in.login(identifier=identifier, password="wrong password", address="192.0.2.1")
    for identifier in ("ada", "ada@example.com"):
        with pytest.raises(TooManyError):
            await people.sign_in.login(identifier=identifier, password=PASSWORD, address="192.0.2.2")
    # Where its owner has signed in before, somebody else's guesses do not count.
    assert await people.sign_in.login(identifier="ada", password=PASSWORD, address="192.0.2.9")


class Counted(Passwords):
    hashed = 0

    async def verify(self, stored: str | None, password: str) -> bool:
        self.hashed += 1
        return await super().verify(stored, password)


@pytest.mark.parametrize("right", [False, True])
async def test_a_thousand_attempts_in_a_minute_hash_no_more_than_allowed(
    house: House, monkeypatch: pytest.MonkeyPatch, right: bool
) -> None:
    now = 0.0
    monkeypatch.setattr("zlh.accounts.attempts.time.monotonic", lambda: now)
    passwords = Counted.cheap()
    people = await house.open(passwords)
    await register(people, address="192.0.2.1")
    waits: list[float | None] = []
    wrong = 0
    for number in range(1000):
        now += 60 / 1000
        password = PASSWORD if right else "wrong password"
        address = "192.0.2.1" if right else f"198.51.100.{number % 250}"
        try:
            await people.sign_in.login(identifier="ada", password=password, address=address)
        except TooManyError as error:
            waits.append(error.retry_after)
        except UnauthenticatedError:
            wrong += 1
    # A burst, and as many again come back within the minute; good ones are six times as many.
    assert passwords.hashed <= (120 if right else 20) + 1
    assert len(waits) == 1000 - passwords.hashed
    assert all(wait is not None and 0 < wait <= 60 for wait in waits)
    assert wrong == (0 if right else passwords.hashed)


async def test_an_address_is_verified_by_mail_where_there_is_mail(house: House) -> None:
    silent = await house.open()
    assert (await register(silent, "ada")).account.email_verified_at == house.clock()
    assert await house.letters() == []
    mailing = await house.open(mail=True, portal_url="https://portal.example")
    assert (await register(mailing, "bob")).account.email_verified_at is None
    made = await mailing.accounts.create(
        email="op@example.com", username="op", password=PASSWORD, role=Role.OPERATOR, plan=None
    )
    assert made.email_verified_at == house.clock()
    assert await house.letters() == ["verify_address"]


async def test_a_sign_in_from_elsewhere_is_told(house: House) -> None:
    people = await house.open(mail=True, portal_url="https://portal.example")
    firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    await register(people, address="2001:db8::1", agent=firefox)

    async def told(address: str, agent: str) -> bool:
        before = len(await house.letters())
        await people.sign_in.login(identifier="ada", password=PASSWORD, address=address, agent=agent)
        return (await house.letters())[before:] == ["new_sign_in"]

    assert not await told("2001:db8::2", firefox.replace("140", "141"))
    assert await told("192.0.2.7", firefox)
    assert not await told("192.0.2.7", firefox)
    assert await told("192.0.2.7", "curl/8.9")
    with pytest.raises(UnauthenticatedError):
        await people.sign_in.login(identifier="ada", password="wrong password", address="192.0.2.8")
    assert (await house.letters())[-1] == "new_sign_in"


async def test_a_stolen_refresh_token_is_told(house: House) -> None:
    people = await house.open(mail=True, portal_url="https://portal.example")
    first = await register(people)
    await people.sign_in.refresh(first.refresh_token)
    house.clock.advance(seconds=11)
    for _ in range(2):
        with pytest.raises(UnauthenticatedError):
            await people.sign_in.refresh(first.refresh_token, address="192.0.2.66")
    assert await house.letters() == ["verify_address", "session_stolen"]


async def test_a_restart_remembers_revocations_and_keys(house: House) -> None:
    people = await house.open()
    kept, ended = await register(people, "ada"), await register(people, "bob")
    await people.sessions.sign_out(principal_of(people, ended))
    again = await house.open()
    await again.load()
    assert principal_of(again, kept).account_id == kept.account.id
    with pytest.raises(UnauthenticatedError):
        principal_of(again, ended)


async def test_new_names(house: House) -> None:
    people = await house.open()
    signed = await register(people)
    renamed = await people.accounts.rename(
        signed.account.id, display_name="Ada L.", first_name=None, last_name="Lovelace"
    )
    assert (renamed.display_name, renamed.first_name, renamed.last_name) == ("Ada L.", "", "Lovelace")
