"""Passwords and addresses are changed by who knows the password, or by who reads the mail; by nobody else."""

from __future__ import annotations

import re
from typing import Any

import pytest
import sqlalchemy as sa
import trio

from tests.accounts.house import PASSWORD, House, principal_of, register
from tests.store.samples import reserve
from zlh.accounts import AccountServices, Overseer
from zlh.accounts.credentials import ANSWER_SECONDS, LETTERS
from zlh.model.access import Permission, Scope
from zlh.model.accounts import Account, Role
from zlh.model.errors import ConflictError, ForbiddenError, InvalidError, TooManyError, UnauthenticatedError
from zlh.store import accounts as rows
from zlh.store import outbox, shares
from zlh.store.outbox import Letter

NEW = "a new password"
MAIL = {"mail": True, "portal_url": "https://portal.example"}
LINK = re.compile(r"https://portal\.example/(verify-email|reset-password)\?token=([\w-]+)")
HOME = "192.0.2.1"


async def posted(house: House) -> list[Letter]:
    """What is to be sent, the oldest first; it is sent by this."""

    def read(connection: sa.Connection) -> list[Letter]:
        taken = outbox.take(connection, house.clock.now, most=100, lease=house.clock.now - house.clock.now)
        for due in taken:
            outbox.delivered(connection, due)
        return [due.letter for due in taken if due.letter is not None]

    return await house.database.run(read)


def token_of(letter: Letter) -> str:
    found = LINK.search(letter.text)
    assert found is not None, letter.text
    return found[2]


async def account(house: House, account_id: int) -> Account:
    found = await house.database.run(rows.by_id, account_id)
    assert found is not None
    return found


async def forgotten(people: AccountServices, house: House, email: str = "ada@example.com") -> str:
    """The token of a new link to reset the password."""
    await people.credentials.forgot(email, HOME)
    (letter,) = await posted(house)
    assert (letter.kind, letter.recipient) == ("reset_password", email)
    return token_of(letter)


async def login(people: AccountServices, identifier: str = "ada", password: str = PASSWORD) -> Any:
    return await people.sign_in.login(identifier=identifier, password=password, address=HOME)


async def test_an_address_is_verified_by_the_link_in_the_letter(house: House) -> None:
    people = await house.open(**MAIL)
    signed_in = await register(people)
    assert signed_in.account.email_verified_at is None
    (letter,) = await posted(house)
    assert (letter.kind, letter.recipient) == ("verify_address", "ada@example.com")
    verified = await people.credentials.verify(token_of(letter), HOME)
    assert (verified.id, verified.email_verified_at) == (signed_in.account.id, house.clock.now)
    with pytest.raises(InvalidError) as refused:
        await people.credentials.verify(token_of(letter), HOME)
    assert refused.value.code == "invalid_link"
    with pytest.raises(ConflictError, match="verified already"):
        await people.credentials.resend(principal_of(people, signed_in))


async def test_every_bad_link_gets_one_answer(house: House) -> None:
    people = await house.open(**MAIL)
    await register(people)
    (letter,) = await posted(house)
    reset = await forgotten(people, house)
    used = await forgotten(people, house)
    await people.credentials.reset(used, NEW, HOME)
    answers = set()
    for attempt in (
        people.credentials.verify("nonsense", HOME),
        people.credentials.verify(used, HOME),
        people.credentials.reset(used, NEW, HOME),
        # The new password made the older link useless.
        people.credentials.reset(reset, NEW, HOME),
        people.credentials.reset(token_of(letter), NEW, HOME),
        people.credentials.reset("half \ud800", NEW, HOME),
    ):
        with pytest.raises(InvalidError) as refused:
            await attempt
        answers.add((refused.value.code, refused.value.message, str(refused.value.details)))
    assert len(answers) == 1


@pytest.mark.parametrize(("minutes", "good"), [(29, True), (30, False), (31, False)])
async def test_a_reset_has_half_an_hour(house: House, minutes: int, good: bool) -> None:
    people = await house.open(**MAIL)
    await register(people)
    await posted(house)
    token = await forgotten(people, house)
    house.clock.advance(minutes=minutes)
    if good:
        await people.credentials.reset(token, NEW, HOME)
    else:
        with pytest.raises(InvalidError):
            await people.credentials.reset(token, NEW, HOME)
        assert await login(people)


@pytest.mark.parametrize(("hours", "good"), [(23, True), (24, False)])
async def test_a_verification_has_a_day(house: House, hours: int, good: bool) -> None:
    people = await house.open(**MAIL)
    signed_in = await register(people)
    (letter,) = await posted(house)
    house.clock.advance(hours=hours)
    if good:
        await people.credentials.verify(token_of(letter), HOME)
    else:
        with pytest.raises(InvalidError):
            await people.credentials.verify(token_of(letter), HOME)
    assert ((await account(house, signed_in.account.id)).email_verified_at is not None) is good


async def test_a_reset_ends_every_session_here_and_elsewhere_and_is_told(house: House) -> None:
    people = await house.open(**MAIL)
    first = await register(people)
    second = await login(people)
    await posted(house)
    await people.credentials.reset(await forgotten(people, house), NEW, HOME)
    for signed_in in (first, second):
        with pytest.raises(UnauthenticatedError):
            people.access.principal(signed_in.token)
        with pytest.raises(UnauthenticatedError):
            await people.sign_in.refresh(signed_in.refresh_token)
    elsewhere = await house.open(**MAIL)
    await elsewhere.load()
    with pytest.raises(UnauthenticatedError):
        elsewhere.access.principal(first.token)
    with pytest.raises(UnauthenticatedError):
        await login(people)
    assert await login(people, password=NEW)
    assert [letter.kind for letter in await posted(house)] == ["password_changed"]


async def test_a_reset_leaves_the_second_factor_and_verifies_the_address(house: House) -> None:
    people = await house.open(**MAIL)
    signed_in = await register(people)
    await posted(house)
    await house.database.run(rows.set_second_factor, signed_in.account.id, house.clock.now)
    await people.credentials.reset(await forgotten(people, house), NEW, HOME)
    found = await account(house, signed_in.account.id)
    assert (found.second_factor_at, found.email_verified_at) == (house.clock.now, house.clock.now)
    with pytest.raises(UnauthenticatedError) as refused:
        await login(people, password=NEW)
    assert refused.value.code == "totp_required"


async def test_a_password_that_will_not_do_leaves_the_link_good(house: House) -> None:
    people = await house.open(**MAIL)
    await register(people)
    await posted(house)
    token = await forgotten(people, house)
    for bad in ("password1", "short", "ada@example.com"):
        with pytest.raises(InvalidError) as refused:
            await people.credentials.reset(token, bad, HOME)
        assert refused.value.details[0]["field"] == "password"
    await people.credentials.reset(token, NEW, HOME)


async def test_of_two_resets_with_one_link_one_wins(house: House) -> None:
    people = await house.open(**MAIL)
    await register(people)
    await posted(house)
    token = await forgotten(people, house)
    won: list[str] = []

    async def reset(password: str) -> None:
        try:
            await people.credentials.reset(token, password, HOME)
        except InvalidError:
            return
        won.append(password)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(reset, f"the new password {number}")
    (winner,) = won
    assert await login(people, password=winner)
    assert [letter.kind for letter in await posted(house)].count("password_changed") == 1


async def test_who_has_no_account_gets_no_letter_and_nobody_can_tell(house: House) -> None:
    people = await house.open(**MAIL)
    known, disabled = await register(people), await register(people, "bob")
    await posted(house)
    await house.database.run(rows.disable, disabled.account.id, house.clock.now)
    times = []
    for email in ("ada@example.com", "nobody@example.com", "bob@example.com"):
        begun = trio.current_time()
        await people.credentials.forgot(email, HOME)
        times.append(trio.current_time() - begun)
    assert min(times) >= ANSWER_SECONDS
    assert [letter.recipient for letter in await posted(house)] == [known.account.email]


async def test_nobody_fills_somebodys_mailbox(house: House) -> None:
    people = await house.open(**MAIL)
    await register(people)
    await posted(house)
    for email in ("ada@example.com", "nobody@example.com"):
        for _ in range(LETTERS):
            await people.credentials.forgot(email, HOME)
        with pytest.raises(TooManyError) as refused:
            await people.credentials.forgot(email.upper(), "198.51.100.7")
        assert refused.value.retry_after
    assert len(await posted(house)) == LETTERS


async def test_a_changed_password_ends_all_other_sessions(house: House) -> None:
    people = await house.open(**MAIL)
    other, own = await register(people), await login(people)
    await posted(house)
    me = principal_of(people, own)
    token = await forgotten(people, house)
    with pytest.raises(ForbiddenError) as refused:
        await people.credentials.change_password(me, "wrong", NEW, HOME)
    assert refused.value.code == "wrong_password"
    with pytest.raises(InvalidError) as common:
        await people.credentials.change_password(me, PASSWORD, "password1", HOME)
    assert common.value.details[0]["field"] == "newPassword"
    await people.credentials.change_password(me, PASSWORD, NEW, HOME)
    assert people.access.principal(own.token)
    assert await people.sign_in.refresh(own.refresh_token)
    with pytest.raises(UnauthenticatedError):
        people.access.principal(other.token)
    assert await login(people, password=NEW)
    (letter,) = await posted(house)
    assert (letter.kind, letter.recipient) == ("password_changed", "ada@example.com")
    assert HOME in letter.text
    with pytest.raises(InvalidError):
        await people.credentials.reset(token, "another password", HOME)


async def test_guessing_the_present_password_is_limited_as_signing_in_is(house: House) -> None:
    people = await house.open(**MAIL, attempts_per_account=3)
    me = principal_of(people, await register(people))
    for _ in range(3):
        with pytest.raises(ForbiddenError):
            await people.credentials.change_password(me, "wrong", NEW, "")
    with pytest.raises(TooManyError):
        await people.credentials.change_email(me, "new@example.com", PASSWORD, "")


async def test_an_address_changes_when_the_new_one_is_verified_and_not_before(house: House) -> None:
    people = await house.open(**MAIL)
    signed_in = await register(people)
    (verify,) = await posted(house)
    await people.credentials.verify(token_of(verify), HOME)
    me = principal_of(people, signed_in)
    with pytest.raises(ForbiddenError):
        await people.credentials.change_email(me, "new@example.com", "wrong", HOME)
    with pytest.raises(InvalidError):
        await people.credentials.change_email(me, "ADA@example.com", PASSWORD, HOME)
    await people.credentials.change_email(me, "New@example.com", PASSWORD, HOME)
    (letter,) = await posted(house)
    assert (letter.kind, letter.recipient) == ("verify_address", "New@example.com")
    assert (await account(house, me.account_id)).email == "ada@example.com"
    reset = await forgotten(people, house)
    changed = await people.credentials.verify(token_of(letter), HOME)
    assert (changed.email, changed.email_verified_at) == ("New@example.com", house.clock.now)
    (notice,) = await posted(house)
    assert (notice.kind, notice.recipient) == ("email_changed", "ada@example.com")
    assert "New@example.com" in notice.text
    assert people.access.principal(signed_in.token)
    # Who reads the old address has no say any more.
    with pytest.raises(InvalidError):
        await people.credentials.reset(reset, NEW, HOME)
    with pytest.raises(UnauthenticatedError):
        await login(people, "ada@example.com")
    assert await login(people, "new@example.com")


async def test_a_new_address_that_somebody_has_is_told_at_the_click_only(house: House) -> None:
    people = await house.open(**MAIL)
    me = principal_of(people, await register(people))
    await register(people, "bob")
    await posted(house)
    await people.credentials.change_email(me, "BOB@example.com", PASSWORD, HOME)
    (letter,) = await posted(house)
    with pytest.raises(ConflictError) as refused:
        await people.credentials.verify(token_of(letter), HOME)
    assert (refused.value.code, refused.value.details) == ("taken", {"fields": ["email"]})
    found = await account(house, me.account_id)
    assert (found.email, found.email_verified_at) == ("ada@example.com", None)
    assert await posted(house) == []


async def test_the_last_new_address_counts_and_a_new_password_forgets_it(house: House) -> None:
    people = await house.open(**MAIL)
    signed_in = await register(people)
    me = principal_of(people, signed_in)
    (present,) = await posted(house)
    await people.credentials.change_email(me, "one@example.com", PASSWORD, HOME)
    await people.credentials.change_email(me, "two@example.com", PASSWORD, HOME)
    one, two = await posted(house)
    with pytest.raises(InvalidError):
        await people.credentials.verify(token_of(one), HOME)
    # Whoever had the password before must not come back by an address of their own.
    await people.credentials.change_password(me, PASSWORD, NEW, HOME)
    with pytest.raises(InvalidError):
        await people.credentials.verify(token_of(two), HOME)
    assert (await people.credentials.verify(token_of(present), HOME)).email == "ada@example.com"


async def test_an_address_that_was_never_verified_is_not_told_where_the_account_went(house: House) -> None:
    people = await house.open(**MAIL)
    me = principal_of(people, await register(people))
    await people.credentials.change_email(me, "new@example.com", PASSWORD, HOME)
    *_, letter = await posted(house)
    await people.credentials.verify(token_of(letter), HOME)
    assert await posted(house) == []


async def test_what_waited_for_the_address_is_there_with_the_click(house: House) -> None:
    people = await house.open(**MAIL)
    owner, guest = await register(people), await register(people, "bob")
    (_, letter) = await posted(house)

    def share(connection: sa.Connection) -> int:
        vmid = reserve(connection, owner.account.id)[0].vmid
        shares.give(
            connection,
            vmid,
            email="bob@example.com",
            permissions=[Permission.POWER],
            given_by=owner.account.id,
            now=house.clock.now,
        )
        return vmid

    vmid = await house.database.run(share)
    people.access.owner_changed(vmid, owner.account.id)
    me = principal_of(people, guest)
    assert not people.access.may_see(me, vmid)
    await people.credentials.verify(token_of(letter), HOME)
    assert people.access.may_see(me, vmid)


async def test_without_mail_what_needs_a_letter_is_refused_and_the_rest_works(house: House) -> None:
    people = await house.open(mail=False)
    signed_in = await register(people)
    assert signed_in.account.email_verified_at is not None
    me = principal_of(people, signed_in)
    for attempt in (
        people.credentials.forgot("ada@example.com", HOME),
        people.credentials.resend(me),
        people.credentials.change_email(me, "new@example.com", PASSWORD, HOME),
    ):
        with pytest.raises(ConflictError) as refused:
            await attempt
        assert refused.value.code == "mail_off"
    await people.credentials.change_password(me, PASSWORD, NEW, HOME)
    assert await login(people, password=NEW)
    assert await posted(house) == []


async def test_a_reset_sent_to_an_address_that_is_no_longer_the_accounts_is_void(house: House) -> None:
    people = await house.open(**MAIL)
    signed_in = await register(people)
    await posted(house)
    token = await forgotten(people, house)
    await house.database.run(rows.set_email, signed_in.account.id, "new@example.com")
    with pytest.raises(InvalidError):
        await people.credentials.reset(token, NEW, HOME)
    assert await login(people)


async def test_a_password_that_an_operator_sets_voids_the_links_that_were_sent_before(house: House) -> None:
    people = await house.open(**MAIL)
    signed_in = await register(people)
    await posted(house)
    await people.credentials.change_email(principal_of(people, signed_in), "thief@example.com", PASSWORD, HOME)
    (moving,) = await posted(house)
    resetting = await forgotten(people, house)
    await people.oversight.reset_password(Overseer(Role.ADMIN), signed_in.account.id, NEW)
    with pytest.raises(InvalidError):
        await people.credentials.verify(token_of(moving), HOME)
    with pytest.raises(InvalidError):
        await people.credentials.reset(resetting, "yet another password", HOME)
    assert (await account(house, signed_in.account.id)).email == "ada@example.com"


async def test_links_of_a_disabled_account_do_not_come_back_with_it(house: House) -> None:
    people = await house.open(**MAIL)
    signed_in = await register(people)
    await posted(house)
    await people.credentials.change_email(principal_of(people, signed_in), "thief@example.com", PASSWORD, HOME)
    (moving,) = await posted(house)
    await people.oversight.disable(Overseer(Role.ADMIN), signed_in.account.id)
    await people.oversight.enable(Overseer(Role.ADMIN), signed_in.account.id)
    with pytest.raises(InvalidError):
        await people.credentials.verify(token_of(moving), HOME)


async def test_who_registered_with_somebody_elses_address_has_no_key_left_once_its_owner_comes(house: House) -> None:
    people = await house.open(**MAIL)
    squatter = await register(people)
    await posted(house)
    _, key = await people.api_keys.create(
        principal_of(people, squatter), name="x", scopes={Scope.SERVERS_READ}, expires_at=None
    )
    await posted(house)
    link = await forgotten(people, house)
    await people.credentials.reset(link, NEW, HOME)
    with pytest.raises(UnauthenticatedError):
        people.access.principal(key)
    elsewhere = await house.open(**MAIL)
    await elsewhere.load()
    with pytest.raises(UnauthenticatedError):
        elsewhere.access.principal(key)


async def test_keys_outlive_a_forgotten_password(house: House) -> None:
    people = await house.open(**MAIL)
    signed_in = await register(people)
    (letter,) = await posted(house)
    await people.credentials.verify(token_of(letter), HOME)
    _, key = await people.api_keys.create(
        principal_of(people, signed_in), name="x", scopes={Scope.SERVERS_READ}, expires_at=None
    )
    await posted(house)
    await people.credentials.reset(await forgotten(people, house), NEW, HOME)
    assert people.access.principal(key).account_id == signed_in.account.id
