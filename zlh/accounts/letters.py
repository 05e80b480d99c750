"""The e-mails that accounts get: pure functions, one a letter, plain text.

What people typed themselves (names of keys and servers, what a browser calls itself, reasons) is told as one short
line in which no mail program finds a link, for anybody could use that to write to others in this service's name.
People are called by their user names, which have a narrow alphabet; a letter never holds a display name. `at` is when
it happened, `address` the network address that it came from.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import quote

from zlh.model.accounts import Account
from zlh.store.outbox import Letter

# What makes mail programs see an address of the web or of somebody: example.com, //10.0.0.1, a@b.
_LINKING = re.compile(r"//+|@|\.(?!\d)(?=\S)")


def verify_address(account: Account, portal_url: str, token: str, *, recipient: str | None = None) -> Letter:
    """To the address that is to be verified: the account's, or `recipient`, which may become the account's."""
    text = (
        f"Somebody, hopefully you, gave this address for the account {told(account.username, 32)}.\n\n"
        f"Please confirm that it is yours, within 24 hours:\n\n{_link(portal_url, 'verify-email', token)}\n\n"
        "If that was not you, do nothing: without your click nothing happens.\n"
    )
    return Letter("verify_address", recipient or account.email, "Please confirm your e-mail address", text)


def reset_password(account: Account, portal_url: str, token: str) -> Letter:
    text = (
        f"Somebody, hopefully you, asked for a new password for the account {account.username}.\n\n"
        f"Choose one here, within 30 minutes:\n\n{_link(portal_url, 'reset-password', token)}\n\n"
        "If that was not you, do nothing: your password stays as it is.\n"
    )
    return Letter("reset_password", account.email, "Choose a new password", text)


def password_changed(account: Account, at: datetime, address: str) -> Letter:
    return _notice(
        account,
        "password_changed",
        "Your password was changed",
        f"The password of your account was changed{_when(at, address)}. All other sign-ins have ended.",
        'If that was not you, choose a new password at once, with "Forgot your password?" where you sign in.\n'
        "API keys stay good: delete those that you do not know.",
    )


def email_changed(account: Account, new_email: str, at: datetime, address: str) -> Letter:
    """`account` is the account before the change: this goes to its old address."""
    return _notice(
        account,
        "email_changed",
        "Your e-mail address was changed",
        f"The e-mail address of your account was changed to {new_email}{_when(at, address)}.\n"
        "From now on we write there; this is our last letter to this address.",
        "If that was not you, tell us at once: this address can no longer be used to sign in.",
    )


def new_sign_in(account: Account, at: datetime, address: str, agent: str) -> Letter:
    """`agent` is what the browser or program calls itself."""
    return _notice(
        account,
        "new_sign_in",
        "A new sign-in to your account",
        f"Somebody signed in to your account{_when(at, address)},\nwith: {told(agent, 120) or 'an unknown program'}",
        "If that was not you, change your password now: that ends all other sign-ins.",
    )


def second_factor_enabled(account: Account, at: datetime, address: str) -> Letter:
    return _notice(
        account,
        "second_factor_enabled",
        "Two-step sign-in was switched on",
        f"Two-step sign-in was switched on for your account{_when(at, address)}.\n"
        "Keep the recovery codes where you find them without your phone.",
        "If that was not you, tell us at once.",
    )


def second_factor_disabled(account: Account, at: datetime, address: str) -> Letter:
    return _notice(
        account,
        "second_factor_disabled",
        "Two-step sign-in was switched off",
        f"Two-step sign-in was switched off for your account{_when(at, address)}.\n"
        "From now on your password alone is enough to sign in.",
        "If that was not you, change your password now and switch it on again.",
    )


def recovery_code_used(account: Account, at: datetime, address: str, left: int) -> Letter:
    """`left` is how many recovery codes can still be used."""
    remaining = "That was the last one." if left == 0 else f"You have {left} left."
    return _notice(
        account,
        "recovery_code_used",
        "A recovery code was used",
        f"A recovery code was used to sign in to your account{_when(at, address)}.\n"
        f"It cannot be used again. {remaining} You can make new ones in your account.",
        "If that was not you, change your password now and make new recovery codes.",
    )


def recovery_codes_renewed(account: Account, at: datetime, address: str) -> Letter:
    return _notice(
        account,
        "recovery_codes_renewed",
        "You have new recovery codes",
        f"New recovery codes were made for your account{_when(at, address)}. The old ones no longer work.",
        "If that was not you, change your password now and make new recovery codes.",
    )


def api_key_created(account: Account, at: datetime, address: str, name: str, scopes: Iterable[str]) -> Letter:
    return _notice(
        account,
        "api_key_created",
        "A new API key for your account",
        f"An API key was made for your account{_when(at, address)}.\n\n"
        f"Its name: {told(name, 64) or '(none)'}\nIt may: {', '.join(scopes)}",
        "If that was not you, delete the key in your account and change your password.",
    )


def session_stolen(account: Account, at: datetime, address: str) -> Letter:
    """One refresh token was used twice; `address` is where the second use came from."""
    return _notice(
        account,
        "session_stolen",
        "We ended a sign-in to your account",
        f"A sign-in to your account was used from two places at once, the last time{_when(at, address)}.\n"
        "That can be a copy in wrong hands, so we ended it in both. Please sign in again.",
        "If you do not know that address, change your password now.",
    )


def share_received(
    recipient: str, sharer: Account, portal_url: str, server: str, permissions: Iterable[str]
) -> Letter:
    """`recipient` is the address that the server named `server` was shared with; it may have no account yet."""
    text = (
        f'{sharer.username} gave you access to the server "{told(server, 64)}".\n\n'
        f"You may: {', '.join(permissions)}\n\n"
        f"Sign in with this e-mail address, or make an account with it:\n\n{portal_url}\n\n"
        "If you do not know who that is, do nothing.\n"
    )
    return Letter("share_received", recipient, f"{told(sharer.username, 32)} shared a server with you", text)


def operator_acted(account: Account, at: datetime, reason: str, *, read_only: bool) -> Letter:
    """Somebody of the staff begins to act in the account's place."""
    extent = "They can look, but change nothing." if read_only else "They can also change things."
    return _notice(
        account,
        "operator_acted",
        "Our support looks into your account",
        f"Somebody of our support works in your account{_when(at, '')}. {extent}\n\nThe reason: {told(reason, 300)}",
        "If you did not expect that, please ask us.",
    )


def told(text: str, longest: int) -> str:
    """What somebody typed, as one line of at most `longest` characters without anything that becomes a link."""
    visible = "".join(" " if unicodedata.category(character)[0] in "CZ" else character for character in text)
    line = " ".join(_LINKING.sub(" ", visible).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _notice(account: Account, kind: str, subject: str, happened: str, otherwise: str) -> Letter:
    text = f"Hello {account.username},\n\n{happened}\n\n{otherwise}\n"
    return Letter(kind, account.email, subject, text)


def _when(at: datetime, address: str) -> str:
    time = f" on {at.astimezone(UTC):%Y-%m-%d at %H:%M} UTC"
    return f"{time} from {told(address, 64)}" if address else time


def _link(portal_url: str, page: str, token: str) -> str:
    return f"{portal_url.rstrip('/')}/{page}?token={quote(token, safe='')}"
