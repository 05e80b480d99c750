from __future__ import annotations

import unicodedata

import bcrypt
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.accounts.house import PASSWORD
from zlh.accounts import Passwords, password_problem, require_good_password
from zlh.accounts import passwords as module
from zlh.accounts.password_rules import common_passwords
from zlh.model.errors import InvalidError, UnavailableError


async def test_passwords_hash_in_threads_and_refuse_garbage() -> None:
    passwords = Passwords.cheap()
    stored = await passwords.hash("päss wörd")
    assert stored.startswith("$argon2id$")
    assert await passwords.verify(stored, "päss wörd")
    assert not await passwords.verify(stored, "pass word")
    assert not await passwords.verify(None, "x")


@pytest.mark.parametrize(
    "stored", ["", "not a hash", "$2b$", "$2b$04$short", "$2b$99$" + "x" * 53, "$2b$é", "$argon2id$"]
)
async def test_what_is_no_hash_matches_nothing(stored: str) -> None:
    assert not await Passwords.cheap().verify(stored, "x")


async def test_two_spellings_of_one_letter_are_one_password() -> None:
    passwords = Passwords.cheap()
    stored = await passwords.hash(unicodedata.normalize("NFD", "pässwörter"))
    assert await passwords.verify(stored, unicodedata.normalize("NFC", "pässwörter"))


async def test_bcrypt_counts_72_bytes_and_no_more() -> None:
    passwords = Passwords.cheap()
    stored = bcrypt.hashpw(b"\xc3\xa4" * 36, bcrypt.gensalt(4)).decode()
    assert passwords.outdated(stored)
    assert await passwords.verify(stored, "ä" * 36)
    assert await passwords.verify(stored, "ä" * 50)
    assert not await passwords.verify(stored, "ä" * 35)
    assert not await passwords.verify(stored, "ä\0" * 36)


async def test_a_crowd_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    passwords = Passwords(memory_kib=64, passes=1, lanes=1, threads=1)
    answers: list[str] = []

    async def hash_one() -> None:
        try:
            await passwords.hash("x")
        except UnavailableError as error:
            answers.append(error.code)
        else:
            answers.append("hashed")

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(hash_one)
    assert sorted(answers) == ["busy"] * 16 + ["hashed"] * 4
    await passwords.hash("x")


@pytest.mark.parametrize(
    "password",
    [
        "",
        "short",
        "x" * 129,
        "password123",
        "PASSWORD123",
        "iLoveYou1",
        "ada@example.com",
        "ADA@Example.com",
        "ada.lovelace",
        "\ud800" * 9,
        "\uff41da.lovelace",
    ],
)
def test_passwords_that_will_not_do(password: str) -> None:
    assert password_problem(password, email="ada@example.com", username="ada.lovelace")
    with pytest.raises(InvalidError) as caught:
        require_good_password(password, email="ada@example.com", username="ada.lovelace", field="newPassword")
    assert caught.value.details[0]["field"] == "newPassword"
    assert not password or password not in caught.value.message


@pytest.mark.parametrize("password", [PASSWORD, "x" * 128, "🐎" * 8, "a b c d e", "\0 any text will do"])
def test_passwords_that_do(password: str) -> None:
    assert password_problem(password, email="ada@example.com", username="ada") is None


def test_the_local_part_of_the_address_is_no_password() -> None:
    assert password_problem("ada.lovelace", email="Ada.Lovelace@example.com", username="ada")


@given(st.sampled_from(sorted(common_passwords())), st.randoms())
def test_common_passwords_in_any_case(word: str, random: object) -> None:
    spelled = "".join(letter.upper() if random.random() < 0.5 else letter for letter in word)
    assert password_problem(spelled, email="x@example.com", username="xxx")
