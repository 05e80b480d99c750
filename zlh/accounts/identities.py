"""What an e-mail address and a user name may look like, whoever makes the account."""

from __future__ import annotations

import re
import unicodedata

from zlh.model.names import comparison_key

LONGEST_EMAIL = 254  # RFC 5321, 4.5.3.1.3, without the angle brackets
LONGEST_USERNAME = 32

_USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,30}[A-Za-z0-9]")
# Nothing that means something else in the header of a message: no list, no comment, no second address. Before the @
# there are 64 characters at most (RFC 5321, 4.5.3.1.1).
_EMAIL = re.compile(r"[^@\s<>()\[\],;:\\\"]{1,64}@[\w-]+(?:\.[\w-]+)+")


def email_problem(text: str) -> str | None:
    """What is wrong with an e-mail address, in words; None when nothing is."""
    hidden = any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in text)
    # A full-width comma or @ is a plain one to whoever folds it, as we do to compare.
    well_formed = all(_EMAIL.fullmatch(form) for form in (text, comparison_key(text)))
    if hidden or len(text) > LONGEST_EMAIL or not well_formed:
        return "an e-mail address is expected"
    return None


def username_problem(text: str) -> str | None:
    """What is wrong with a user name, in words; None when nothing is. One is never an e-mail address, for people
    sign in with either."""
    if not _USERNAME.fullmatch(text):
        return (
            f"3 to {LONGEST_USERNAME} letters, digits, dots, hyphens and underscores, "
            "with a letter or digit at both ends"
        )
    return None
