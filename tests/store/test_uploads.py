"""Uploads that may be continued: their rows live while they are worked on, and no longer than their container."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests.store.samples import NOW, add_account, reserve
from zlh.model.errors import AbsentError, TooManyError
from zlh.model.transfers import Upload, UploadState
from zlh.store import uploads
from zlh.store.tables import containers, operations
from zlh.store.uploads import MOST_UPLOADS

LATER = NOW + timedelta(hours=1)


@pytest.fixture
def vmid(connection: sa.Connection) -> int:
    container, _ = reserve(connection, add_account(connection).id)
    return container.vmid


def begin(connection: sa.Connection, vmid: int, path: str = "world/big") -> Upload:
    return uploads.begin(connection, vmid, path, 1 << 40, LATER)


def test_what_is_begun_is_found_by_its_container_only(connection: sa.Connection, vmid: int) -> None:
    upload = begin(connection, vmid)
    assert (upload.path, upload.length, upload.state) == ("world/big", 1 << 40, UploadState.OPEN)
    assert uploads.find(connection, vmid, upload.id) == upload
    assert uploads.find(connection, vmid + 1, upload.id) is None
    assert uploads.find(connection, vmid, "nothing") is None
    with pytest.raises(AbsentError):
        begin(connection, 9)


def test_it_moves_and_expires_later(connection: sa.Connection, vmid: int) -> None:
    upload = begin(connection, vmid)
    assert uploads.move(connection, upload.id, UploadState.MOVING)
    assert uploads.keep(connection, upload.id, LATER + timedelta(hours=1))
    found = uploads.find(connection, vmid, upload.id)
    assert found is not None
    assert (found.state, found.expires_at) == (UploadState.MOVING, LATER + timedelta(hours=1))
    uploads.forget(connection, upload.id)
    assert not uploads.move(connection, upload.id, UploadState.DONE)
    assert not uploads.keep(connection, upload.id, LATER)


def test_the_oldest_expire_first(connection: sa.Connection, vmid: int) -> None:
    late, early = begin(connection, vmid), begin(connection, vmid)
    uploads.keep(connection, early.id, NOW)
    assert uploads.expired(connection, NOW - timedelta(seconds=1)) == []
    assert [each.id for each in uploads.expired(connection, LATER)] == [early.id, late.id]
    assert [each.id for each in uploads.expired(connection, LATER, 1)] == [early.id]


def test_of_those_that_are_done_nobody_need_be_asked(connection: sa.Connection, vmid: int) -> None:
    made = [begin(connection, vmid) for _ in range(3)]
    for upload in made[:2]:
        uploads.move(connection, upload.id, UploadState.DONE)
    uploads.keep(connection, made[0].id, LATER + timedelta(seconds=1))
    assert uploads.forget_done(connection, LATER) == 1
    assert [uploads.find(connection, vmid, upload.id) is not None for upload in made] == [True, False, True]


def test_only_so_many_are_unfinished(connection: sa.Connection, vmid: int) -> None:
    made = [begin(connection, vmid) for _ in range(MOST_UPLOADS)]
    with pytest.raises(TooManyError) as refused:
        begin(connection, vmid)
    assert refused.value.code == "too_many_uploads"
    uploads.move(connection, made[0].id, UploadState.MOVING)
    with pytest.raises(TooManyError):
        begin(connection, vmid)
    uploads.move(connection, made[0].id, UploadState.DONE)
    begin(connection, vmid)


def test_two_at_the_same_moment_do_not_pass_the_limit_together(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        vmid = reserve(connection, add_account(connection).id)[0].vmid
        for _ in range(MOST_UPLOADS - 1):
            begin(connection, vmid)

    def one_more(_: int) -> bool:
        try:
            with engine.begin() as connection:
                begin(connection, vmid)
        except TooManyError:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(one_more, range(4))) == [False, False, False, True]


def test_they_go_with_their_container(connection: sa.Connection, vmid: int) -> None:
    upload = begin(connection, vmid)
    connection.execute(sa.update(containers).where(containers.c.vmid == vmid).values(vmid=vmid + 1))
    assert uploads.find(connection, vmid + 1, upload.id) is not None
    connection.execute(sa.delete(operations))
    connection.execute(sa.delete(containers).where(containers.c.vmid == vmid + 1))
    assert uploads.expired(connection, LATER) == []
