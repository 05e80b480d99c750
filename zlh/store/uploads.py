"""Uploads that may be continued: where they go and until when they are waited for. Every function runs in the
caller's transaction."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from zlh.model.errors import AbsentError, TooManyError
from zlh.model.transfers import Upload, UploadState
from zlh.store.tables import containers, uploads

MOST_UPLOADS: Final = 32
"""Unfinished ones of one container."""

BATCH: Final = 100


def begin(connection: sa.Connection, vmid: int, path: str, length: int, expires_at: datetime) -> Upload:
    """Raises AbsentError where there is no container, TooManyError "too_many_uploads"."""
    # Two at the same moment count one after the other.
    container = sa.select(containers.c.vmid).where(containers.c.vmid == vmid).with_for_update(key_share=True)
    if connection.execute(container).first() is None:
        raise AbsentError("there is no such server")
    unfinished = sa.select(sa.func.count()).where(uploads.c.vmid == vmid, uploads.c.state != UploadState.DONE)
    if connection.execute(unfinished).scalar_one() >= MOST_UPLOADS:
        raise TooManyError(
            "too many unfinished uploads: finish or remove one first",
            code="too_many_uploads",
            details={"limit": MOST_UPLOADS},
            retry_after=60,
        )
    upload = Upload(
        id=secrets.token_hex(16),
        vmid=vmid,
        path=path,
        length=length,
        state=UploadState.OPEN,
        expires_at=expires_at,
    )
    values = {"id": upload.id, "vmid": vmid, "path": path, "length": length, "state": upload.state}
    connection.execute(sa.insert(uploads).values(**values, expires_at=expires_at))
    return upload


def find(connection: sa.Connection, vmid: int, upload_id: str) -> Upload | None:
    row = connection.execute(sa.select(uploads).where(uploads.c.id == upload_id, uploads.c.vmid == vmid)).first()
    return None if row is None else _upload(row)


def keep(connection: sa.Connection, upload_id: str, expires_at: datetime) -> bool:
    """False where it is gone."""
    return _set(connection, upload_id, expires_at=expires_at)


def move(connection: sa.Connection, upload_id: str, state: UploadState) -> bool:
    """False where it is gone."""
    return _set(connection, upload_id, state=state)


def forget(connection: sa.Connection, upload_id: str) -> None:
    connection.execute(sa.delete(uploads).where(uploads.c.id == upload_id))


def forget_done(connection: sa.Connection, now: datetime) -> int:
    """Those whose files are in their places and whose time is over; how many."""
    over = uploads.c.state == UploadState.DONE, uploads.c.expires_at <= now
    return connection.execute(sa.delete(uploads).where(*over)).rowcount


def expired(connection: sa.Connection, now: datetime, limit: int = BATCH) -> list[Upload]:
    """Those whose time is over, the oldest first."""
    wanted = sa.select(uploads).where(uploads.c.expires_at <= now).order_by(uploads.c.expires_at).limit(limit)
    return [_upload(row) for row in connection.execute(wanted)]


def _set(connection: sa.Connection, upload_id: str, **values: Any) -> bool:
    return connection.execute(sa.update(uploads).where(uploads.c.id == upload_id).values(**values)).rowcount > 0


def _upload(row: sa.Row[Any]) -> Upload:
    return Upload(
        id=row.id,
        vmid=row.vmid,
        path=row.path,
        length=row.length,
        state=UploadState(row.state),
        expires_at=row.expires_at,
    )
