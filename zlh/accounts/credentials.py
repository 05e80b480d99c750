"""Passwords and e-mail addresses: changed by who knows the password, or by who reads the mail.

Where e-mail is off, what would need it is refused with ConflictError "mail_off": it says nothing about any account,
and whoever waited for a letter that never comes would be worse off. What needs no letter works all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
import trio

from zlh.accounts import letters
from zlh.accounts.access import AccessTable
from zlh.accounts.attempts import Attempts
from zlh.accounts.links import digest, send_reset, send_verification
from zlh.accounts.notices import Notices
from zlh.accounts.password_rules import require_good_password
from zlh.accounts.passwords import Passwords
from zlh.accounts.proof import PasswordProof, lock_proven
from zlh.accounts.rules import Rules
from zlh.accounts.shares import Shares
from zlh.model.accounts import Account, Principal
from zlh.model.errors import ConflictError, InvalidError
from zlh.model.names import comparison_key
from zlh.store import accounts as rows
from zlh.store import api_keys, mail_links, sessions, shares
from zlh.store.database import Database
from zlh.store.mail_links import MailLink, Purpose

ANSWER_SECONDS: Final = 0.25
"""No answer about a forgotten password comes sooner, so that its time does not tell whether there was work to do."""

LETTERS: Final = 3
LETTERS_SECONDS: Final = 900.0
"""So many letters one address is sent at anybody's wish, so that nobody's mailbox is filled with ours."""


@dataclass(frozen=True, slots=True)
class Changed:
    """The account as it is now, the sessions and API keys that ended, and the containers that it may see from now
    on."""

    account: Account
    ended: Sequence[str] = ()
    keys: Sequence[str] = ()
    vmids: Sequence[int] = ()


class Credentials:
    """Changes them in the store, then tells the access table. Everything may raise StoreUnavailable and TooManyError;
    `address` is the client's."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        proof: PasswordProof,
        access: AccessTable,
        shared: Shares,
        notices: Notices,
        rules: Rules,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._proof = proof
        self._access = access
        self._shared = shared
        self._notices = notices
        self._rules = rules
        self._now = now
        self._letters = Attempts(LETTERS, LETTERS_SECONDS)

    async def forgot(self, email: str, address: str) -> Account | None:
        """Sends a link with which a new password can be chosen, where an account has that address; whether one has is
        for the record only, never for the caller."""
        self._require_mail()
        self._proof.limits.take_address(address, hashing=False)
        self._letters.take(comparison_key(email))
        answer_at = trio.current_time() + ANSWER_SECONDS

        def write(connection: sa.Connection) -> Account | None:
            found = rows.by_identifier(connection, email)
            account = rows.lock(connection, found.id) if found is not None else None
            if account is None or account.disabled_at is not None:
                return None
            send_reset(connection, account, self._rules.portal_url, self._now())
            return account

        account = await self._database.run(write)
        await trio.sleep_until(answer_at)
        return account

    async def reset(self, token: str, password: str, address: str) -> Account:
        """A new password by a link. Ends every session; the second factor stays, and API keys do. Who reads the
        account's mail has verified its address, too: where nobody had before, whoever made the account may have been
        somebody else, whose API keys end. Raises InvalidError "invalid_link", and for a password that will not do."""
        self._proof.limits.take_address(address)
        link, account = await self._linked(token, Purpose.RESET)
        require_good_password(password, email=account.email, username=account.username)
        password_hash = await self._passwords.hash(password)

        def write(connection: sa.Connection) -> Changed:
            now = self._now()
            present = self._spend(connection, token, link)
            rows.set_password_hash(connection, present.id, password_hash)
            ended = sessions.revoke_all(connection, present.id, now, because="the password was reset")
            keys = [] if present.email_verified_at else api_keys.revoke_all(connection, present.id, now)
            mail_links.withdraw(connection, present.id, but_verifying=present.email)
            changed = _verify(connection, present, now)
            self._notices.post(connection, changed.account, letters.password_changed(present, now, address))
            return Changed(changed.account, ended, keys, changed.vmids)

        changed = await self._carry_out(write)
        self._proof.limits.good_address(address)
        return changed.account

    async def change_password(self, principal: Principal, current: str, new: str, address: str) -> Account:
        """Ends all other sessions, and makes the links useless that were sent before. Raises ForbiddenError
        "wrong_password", InvalidError for a new one that will not do, ConflictError where it changed meanwhile."""
        proven = await self._proof.again(principal.account_id, current, address)
        require_good_password(new, email=proven.email, username=proven.username, field="newPassword")
        password_hash = await self._passwords.hash(new)

        def write(connection: sa.Connection) -> Changed:
            now = self._now()
            present = lock_proven(connection, proven)
            account = rows.set_password_hash(connection, present.id, password_hash)
            ended = sessions.revoke_all(
                connection, present.id, now, keep=principal.session_id, because="the password was changed"
            )
            mail_links.withdraw(connection, present.id, but_verifying=present.email)
            self._notices.post(connection, present, letters.password_changed(present, now, address))
            return Changed(account, ended)

        return (await self._carry_out(write)).account

    async def verify(self, token: str, address: str) -> Account:
        """The address that the link was sent to is the account's, from now on where it was not. Raises InvalidError
        "invalid_link", and ConflictError "taken" where it has become another account's."""
        self._proof.limits.take_address(address, hashing=False)
        link, _ = await self._linked(token, Purpose.VERIFY)

        def write(connection: sa.Connection) -> Changed:
            now = self._now()
            present = self._spend(connection, token, link)
            if comparison_key(link.email) == comparison_key(present.email):
                return _verify(connection, present, now)
            moved = rows.set_email(connection, present.id, link.email)
            mail_links.withdraw(connection, present.id)
            if present.email_verified_at is not None:
                # An address that nobody verified may be a stranger's, who is not told where the account went.
                self._notices.post(connection, present, letters.email_changed(present, link.email, now, address))
            return _verify(connection, moved, now)

        return (await self._carry_out(write)).account

    async def resend(self, principal: Principal) -> None:
        """One more link that verifies the account's address. Raises ConflictError "already_verified"."""
        self._require_mail()
        self._letters.take(f"account {principal.account_id}")

        def write(connection: sa.Connection) -> None:
            account = rows.lock(connection, principal.account_id)
            if account.email_verified_at is not None:
                raise ConflictError("this address is verified already", code="already_verified")
            send_verification(connection, account, self._rules.portal_url, self._now())

        await self._database.run(write)

    async def change_email(self, principal: Principal, email: str, password: str, address: str) -> None:
        """Sends a link to the new address; nothing changes until it is used. Links to other new addresses become
        useless. Whether somebody else has the address is only told to who reads its mail. Raises ForbiddenError
        "wrong_password", InvalidError for the address that the account has."""
        self._require_mail()
        proven = await self._proof.again(principal.account_id, password, address)
        if comparison_key(email) == comparison_key(proven.email):
            raise InvalidError.of(("email", "this is the account's address already"))
        self._letters.take(f"account {proven.id}")
        self._letters.take(comparison_key(email))

        def write(connection: sa.Connection) -> None:
            present = lock_proven(connection, proven)
            mail_links.withdraw(connection, present.id, but_verifying=present.email)
            send_verification(connection, present, self._rules.portal_url, self._now(), email=email)

        await self._database.run(write)

    async def _carry_out(self, write: Callable[[sa.Connection], Changed]) -> Changed:
        changed = await self._database.run(write)
        for session_id in changed.ended:
            self._access.session_revoked(session_id)
        for key_id in changed.keys:
            self._access.key_revoked(key_id)
        self._access.account_changed(changed.account)
        await self._shared.look_again(changed.vmids)
        return changed

    async def _linked(self, token: str, purpose: Purpose) -> tuple[MailLink, Account]:
        """What the link is for; it is not used yet. Raises InvalidError "invalid_link"."""

        def read(connection: sa.Connection) -> tuple[MailLink, Account] | None:
            link = mail_links.find(connection, digest(token), purpose, self._now())
            account = rows.by_id(connection, link.account_id) if link is not None else None
            return (link, account) if link is not None and account is not None else None

        found = await self._database.run(read)
        if found is None:
            raise _invalid_link()
        return found

    def _spend(self, connection: sa.Connection, token: str, link: MailLink) -> Account:
        """Uses the link, with its account locked before it, as everywhere. A password is only reset by who reads the
        present address."""
        account = rows.lock(connection, link.account_id)
        spent = mail_links.spend(connection, digest(token), link.purpose, self._now())
        moved = link.purpose is Purpose.RESET and comparison_key(link.email) != comparison_key(account.email)
        if spent is None or moved or account.disabled_at is not None:
            raise _invalid_link()
        return account

    def _require_mail(self) -> None:
        if not self._rules.mail:
            raise ConflictError("this installation sends no e-mail; ask those who run it", code="mail_off")


def _verify(connection: sa.Connection, account: Account, now: datetime) -> Changed:
    """What waits for that address is the account's, too."""
    verified = rows.set_email_verified(connection, account.id, now)
    return Changed(verified, vmids=shares.bind(connection, verified))


def _invalid_link() -> InvalidError:
    return InvalidError("this link is not valid, or no longer; ask for a new one", code="invalid_link")
