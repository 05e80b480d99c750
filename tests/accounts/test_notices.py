"""What happens to an account is told to its owner; a stranger's mailbox is not filled with it."""

from __future__ import annotations

from tests.accounts.house import PASSWORD, House, register
from zlh.accounts.notices import UNVERIFIED_PER_HOUR
from zlh.store import accounts as rows


async def told_of(house: House, *, verified: bool) -> int:
    """How many letters tell of twice as many new sign-ins as an unverified address is told of."""
    people = await house.open(mail=True, portal_url="https://portal.example", attempts_per_account=1000)
    signed_in = await register(people)
    if verified:
        await house.database.run(rows.set_email_verified, signed_in.account.id, house.clock.now)
    for number in range(2 * UNVERIFIED_PER_HOUR):
        await people.sign_in.login(identifier="ada", password=PASSWORD, address=f"192.0.2.{number}")
    return (await house.letters()).count("new_sign_in")


async def test_an_owner_is_told_of_everything(house: House) -> None:
    assert await told_of(house, verified=True) == 2 * UNVERIFIED_PER_HOUR


async def test_an_address_that_nobody_verified_gets_only_so_many(house: House) -> None:
    assert await told_of(house, verified=False) == UNVERIFIED_PER_HOUR
