"""What is sent, as RFC 5322 wants it. Nothing that somebody typed can become a header, an address, or a command."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

from zlh.drivers.errors import Refused

# RFC 5321, 4.2.3: mailbox name not allowed. What could not be a message is refused as a server would refuse it.
NOT_ALLOWED = 553
LONGEST_LINE = 998  # RFC 5322, 2.1.1
_SPECIAL = frozenset('<>()[],;:\\"')


@dataclass(frozen=True, slots=True)
class Message:
    """`id` is unique in this installation, `kind` a word of ours. `text` may hold a link that is a secret."""

    id: int
    kind: str
    recipient: str
    subject: str
    text: str = field(repr=False)
    at: datetime


def parse_sender(text: str) -> Address:
    """One address, with or without a name before it. Raises ValueError."""
    message = EmailMessage(policy=SMTP)
    message["From"] = text
    header = message["From"]
    if header.defects or len(header.addresses) != 1 or not header.addresses[0].domain:
        raise ValueError("one e-mail address is expected, such as ZLH <no-reply@zlh.example>")
    sender: Address = header.addresses[0]
    return sender


def compose(message: Message, sender: Address) -> EmailMessage:
    """The same message is composed the same each time: sent twice, its Message-ID tells that it is one. Raises
    Refused where it could not be a message."""
    composed = EmailMessage(policy=SMTP)
    composed["From"] = sender
    composed["To"] = _address(message.recipient)
    composed["Date"] = message.at
    composed["Message-ID"] = f"<{message.at:%Y%m%d%H%M%S}.{message.kind}.{message.id}@{sender.domain}>"
    # RFC 3834: no holiday notice answers this.
    composed["Auto-Submitted"] = "auto-generated"
    try:
        composed["Subject"] = message.subject
        _fill(composed, message.text)
    except ValueError:
        raise Refused("the subject is not one line, or there is no text of Unicode", status=NOT_ALLOWED) from None
    return composed


def _fill(composed: EmailMessage, text: str) -> None:
    plain = text.isascii() and all(len(line) <= LONGEST_LINE for line in text.splitlines())
    # In quoted-printable a link in a file is cut in pieces.
    composed.set_content(text, cte="7bit" if plain else None)


def _address(text: str) -> Address:
    """Raises Refused for anything but one plain address."""
    local, _, domain = text.rpartition("@")
    odd = any(character in _SPECIAL or character.isspace() or not character.isprintable() for character in text)
    address = None if odd or not local or not domain else Address(username=local, domain=domain)
    if address is None or address.addr_spec != text:
        raise Refused("the recipient is no e-mail address", status=NOT_ALLOWED)
    return address
