"""Transfers outlive the token that they were begun with, but no sign-out; and the audit record hears of them."""

from __future__ import annotations

from typing import cast

import pytest
import trio
import trio.testing

from tests.accounts.test_access import LIFETIME, Ends, make
from tests.accounts.test_audit import everything, trail
from zlh.accounts import AccessTable, Tokens, TransferLog
from zlh.accounts.grants import AccessGrant
from zlh.model.access import Permission, Scope
from zlh.model.accounts import Principal, Role
from zlh.model.audit import Outcome
from zlh.model.console import Visit

DAY = 86_400.0


def enter(table: AccessTable, token: str, lasting: float) -> tuple[AccessGrant, Ends]:
    grant = table.enter(token, 5001, Permission.FILES, Scope.FILES, changes=True, lasting=lasting)
    ends = Ends()
    grant.on_end(ends)
    return grant, ends


async def test_a_transfer_outlives_its_token(autojump_clock: trio.testing.MockClock) -> None:
    table, tokens = make()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        _, short = enter(table, tokens.issue(1, "a"), 0.0)
        _, long = enter(table, tokens.issue(1, "a"), DAY)
        await trio.sleep(LIFETIME + 5)
        assert [code for code, _ in short.seen] == [4401]
        assert long.seen == []
        await trio.sleep(DAY)
        assert [code for code, _ in long.seen] == [4401]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("after", [1.0, LIFETIME + 5])
async def test_but_not_the_sign_out(autojump_clock: trio.testing.MockClock, after: float) -> None:
    table, tokens = make()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        grant, ends = enter(table, tokens.issue(1, "a"), DAY)
        _, gone = enter(table, tokens.issue(1, "b"), DAY)
        grant.may_type = False
        await trio.sleep(after)
        table.session_revoked("a")
        assert [code for code, _ in ends.seen] == [4401]
        table.owner_changed(5001, None)
        assert [code for code, _ in gone.seen] == [4404]
        nursery.cancel_scope.cancel()


async def test_what_was_moved_is_in_the_record(postgres_url: str) -> None:
    async with trail(postgres_url) as (made, _):
        access = AccessTable(cast(Tokens, None))
        access.owner_changed(5001, 7)
        log = TransferLog(made, access)
        visit = Visit(5001, "203.0.113.7", "portal", "request-1")
        guest = Principal(3, Role.CUSTOMER, "s", 9e9)
        log.uploaded(guest, visit, "world/level.dat", 10, 201)
        log.uploaded(guest, visit, "world/level.dat", 4, None)
        log.downloaded(guest, visit, "b1", 99, 200)
        up, broken, down = await everything(made)
        assert (up.action, up.details) == ("file.upload", {"path": "world/level.dat", "bytes": 10})
        assert (up.outcome, broken.outcome, broken.status) == (Outcome.DONE, Outcome.FAILED, None)
        assert (down.action, down.details) == ("backup.download", {"backup": "b1", "bytes": 99})
        assert up.subject is not None
        assert (up.subject.id, up.vmid, up.address) == (7, 5001, "203.0.113.7")
