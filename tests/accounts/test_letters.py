"""Letters say what happened, and nothing that somebody typed becomes more than a word in them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlh.accounts import letters
from zlh.accounts.letters import told
from zlh.model.accounts import Account, Role
from zlh.store.outbox import Letter

AT = datetime(2026, 6, 1, 14, 5, tzinfo=timezone(timedelta(hours=2)))
ADA = Account(7, "ada@example.com", "ada", "hash", Role.CUSTOMER, AT, display_name="Win $$$ at evil.example")
PORTAL = "https://portal.example/"
HOME = "192.0.2.1"

# Every letter, with `typed` wherever somebody else's text goes in.
LETTERS: list[Callable[[str], Letter]] = [
    lambda typed: letters.verify_address(ADA, PORTAL, "to-ken"),
    lambda typed: letters.reset_password(ADA, PORTAL, "to-ken"),
    lambda typed: letters.password_changed(ADA, AT, typed),
    lambda typed: letters.email_changed(ADA, "new@example.com", AT, typed),
    lambda typed: letters.new_sign_in(ADA, AT, typed, typed),
    lambda typed: letters.second_factor_enabled(ADA, AT, typed),
    lambda typed: letters.second_factor_disabled(ADA, AT, typed),
    lambda typed: letters.recovery_code_used(ADA, AT, typed, 3),
    lambda typed: letters.recovery_codes_renewed(ADA, AT, typed),
    lambda typed: letters.api_key_created(ADA, AT, typed, typed, ["console", "files"]),
    lambda typed: letters.session_stolen(ADA, AT, typed),
    lambda typed: letters.share_received("bob@example.com", ADA, PORTAL, typed, ["power"]),
    lambda typed: letters.operator_acted(ADA, AT, typed, read_only=True),
]


@pytest.mark.parametrize("write", LETTERS)
def test_a_letter_is_short_and_names_its_kind(write: Callable[[str], Letter]) -> None:
    letter = write(HOME)
    assert callable(getattr(letters, letter.kind))
    assert 0 < len(letter.subject) < 70
    assert letter.subject.isprintable()
    assert len(letter.text) < 700
    assert letter.text.endswith("\n")
    assert letter.recipient == ("bob@example.com" if letter.kind == "share_received" else "ada@example.com")
    assert "evil" not in letter.text
    assert "hash" not in letter.text


def test_links_lead_to_the_portal() -> None:
    verify = letters.verify_address(ADA, PORTAL, "to-ken", recipient="new@example.com")
    assert "\nhttps://portal.example/verify-email?token=to-ken\n" in verify.text
    assert verify.recipient == "new@example.com"
    assert (
        "\nhttps://portal.example/reset-password?token=to-ken\n" in letters.reset_password(ADA, PORTAL, "to-ken").text
    )
    # What holds a secret is never shown.
    assert "to-ken" not in repr(verify)


def test_times_are_utc_and_addresses_are_told() -> None:
    assert "on 2026-06-01 at 12:05 UTC from 192.0.2.1" in letters.password_changed(ADA, AT, HOME).text
    assert "at 12:05 UTC from 2001:db8::1" in letters.password_changed(ADA, AT, "2001:db8::1").text
    assert "at 12:05 UTC." in letters.password_changed(ADA, AT, "").text


def test_who_lost_a_password_hears_what_else_is_to_be_done() -> None:
    assert "API keys stay good" in letters.password_changed(ADA, AT, HOME).text


def test_the_last_recovery_code() -> None:
    assert "the last one" in letters.recovery_code_used(ADA, AT, HOME, 0).text
    assert "3 left" in letters.recovery_code_used(ADA, AT, HOME, 3).text


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("Firefox 126.0 (Linux)", "Firefox 126.0 (Linux)"),
        ("see evil.example now", "see evil example now"),
        ("https://10.0.0.1/x", "https: 10.0.0.1/x"),
        ("eve@evil.example", "eve evil example"),
        ("two\r\nlines\u2028or\x0bmore\0", "two lines or more"),
        ("turned \u202egnp.exe", "turned gnp exe"),
        ("half \ud800", "half"),
        ("  ", ""),
        ("x" * 100, "x" * 63 + "…"),
    ],
)
def test_what_is_told_of_what_somebody_typed(typed: str, expected: str) -> None:
    assert told(typed, 64) == expected


@given(st.text(max_size=300), st.integers(1, 100))
def test_whatever_was_typed_is_one_short_line_without_a_link(typed: str, longest: int) -> None:
    line = told(typed, longest)
    assert len(line) <= longest
    assert not [character for character in line if unicodedata.category(character)[0] == "C"]
    assert len(line.splitlines()) <= 1
    assert not re.search(r"//|@|\w\.[^\W\d]", line)


@given(st.sampled_from(LETTERS), st.text(max_size=300))
def test_no_letter_gains_lines(write: Callable[[str], Letter], typed: str) -> None:
    plain, odd = write("x"), write("x" + typed)
    assert len(odd.text.splitlines()) == len(plain.text.splitlines())
    assert odd.subject == plain.subject
