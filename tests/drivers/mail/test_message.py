"""Nothing that somebody typed becomes a header, another address, or a command."""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlh.drivers.errors import Refused
from zlh.drivers.mail import Message, compose, parse_sender

AT = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
SENDER = parse_sender("ZLH <no-reply@zlh.example>")
NAMES = ["From", "To", "Date", "Message-ID", "Auto-Submitted", "Subject"]
OF_THE_BODY = {"Content-Type", "Content-Transfer-Encoding", "MIME-Version"}


def message(recipient: str = "ada@example.com", subject: str = "A subject", text: str = "A text\n") -> Message:
    return Message(7, "new_sign_in", recipient, subject, text, AT)


def headers(composed: EmailMessage) -> list[str]:
    raw = composed.as_bytes()
    head = raw.partition(b"\r\n\r\n")[0].decode()
    return [line.partition(":")[0] for line in head.split("\r\n") if not line.startswith((" ", "\t"))]


def test_a_message() -> None:
    composed = compose(message(), SENDER)
    assert [name for name in headers(composed) if name not in OF_THE_BODY] == NAMES
    assert composed["From"] == "ZLH <no-reply@zlh.example>"
    assert composed["To"] == "ada@example.com"
    assert composed["Date"].datetime == AT
    assert composed["Message-ID"] == "<20260601123000.new_sign_in.7@zlh.example>"
    assert composed["Auto-Submitted"] == "auto-generated"
    assert composed.get_content() == "A text\n"
    assert compose(message(), SENDER).as_bytes() == composed.as_bytes()


def test_a_link_stays_in_one_piece() -> None:
    link = "https://portal.example/verify-email?token=" + "a" * 300
    assert link.encode() in compose(message(text=f"Here:\n\n{link}\n"), SENDER).as_bytes()


@pytest.mark.parametrize(
    "text", ["Grüße …\n", "x" * 5000 + "\n", ".\n.\nQUIT\n", "nul \0 and bell \a\n", "", "a\rb\n"]
)
def test_any_text(text: str) -> None:
    raw = compose(message(text=text), SENDER).as_bytes()
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))


@pytest.mark.parametrize(
    "recipient",
    [
        "ada@example.com\r\nBcc: eve@example.com",
        "ada@example.com\nBcc: eve@example.com",
        "ada@example.com\rBcc: eve@example.com",
        "ada@example.com, eve@example.com",
        "ada@example.com>\r\nRCPT TO:<eve@example.com",
        "Ada <ada@example.com>",
        "ada@example.com\0",
        "ada@example.com\u2028",
        "a\u200bda@example.com",
        "ada @example.com",
        '"a b"@example.com',
        "@example.com",
        "ada@",
        "ada",
        "",
    ],
)
def test_what_is_no_address_is_refused_for_good(recipient: str) -> None:
    with pytest.raises(Refused) as refused:
        compose(message(recipient=recipient), SENDER)
    assert refused.value.status == 553
    assert "example" not in str(refused.value)


@pytest.mark.parametrize(
    "subject", ["a\r\nBcc: eve@example.com", "a\nb", "a\rb", "a\x85Bcc: x", "a\x0bb", "a\u2028b"]
)
def test_a_subject_of_two_lines_is_refused(subject: str) -> None:
    with pytest.raises(Refused):
        compose(message(subject=subject), SENDER)


def test_half_a_character_is_refused() -> None:
    with pytest.raises(Refused):
        compose(message(text="half \ud800"), SENDER)


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=200))
def test_whatever_it_is_there_are_no_other_headers(recipient: str, subject: str, text: str) -> None:
    try:
        composed = compose(message(recipient, subject, text), SENDER)
    except Refused:
        composed = compose(message(text=text), SENDER)
    assert [name for name in headers(composed) if name not in OF_THE_BODY] == NAMES


@pytest.mark.parametrize("sender", ["", "nonsense", "A <a@b.example>, B <c@d.example>", "a@b.example\r\nX: y"])
def test_a_sender_is_one_address(sender: str) -> None:
    with pytest.raises(ValueError):
        parse_sender(sender)


def test_senders() -> None:
    assert parse_sender("no-reply@zlh.example").addr_spec == "no-reply@zlh.example"
    assert parse_sender("Zürich <a@b.example>").display_name == "Zürich"
