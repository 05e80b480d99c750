"""Backups of game and dev containers; their bytes are moved by the gateway."""

from __future__ import annotations

from zlh.api import backups
from zlh.api.routing import VMID, Route, Who
from zlh.model.access import Permission, Scope
from zlh.model.containers import ContainerType


def _backups(ctype: ContainerType) -> tuple[Route, ...]:
    every = f"/api/{ctype.value}/{VMID}/backups"
    one = f"{every}/<backup_id>"
    return (
        Route(
            "GET",
            every,
            Who.SIGNED_IN,
            backups.list_backups(ctype),
            "Backups of a container",
            backups.Backups,
            scope=Scope.BACKUPS,
            permission=Permission.BACKUPS,
            suspended=True,
        ),
        Route(
            "POST",
            every,
            Who.SIGNED_IN,
            backups.create(ctype),
            "Make a backup, within the plan",
            backups.BackupBegun,
            202,
            backups.CreateBackup,
            scope=Scope.BACKUPS,
            permission=Permission.BACKUPS,
            idempotent=True,
            audited="backup.create",
        ),
        Route(
            "PATCH",
            one,
            Who.SIGNED_IN,
            backups.change(ctype),
            "Rename a backup, lock it, unlock it",
            backups.OneBackup,
            body=backups.ChangeBackup,
            scope=Scope.BACKUPS,
            permission=Permission.BACKUPS,
            audited="backup.change",
        ),
        Route(
            "DELETE",
            one,
            Who.SIGNED_IN,
            backups.delete(ctype),
            "Delete a backup that is not locked",
            None,
            204,
            scope=Scope.BACKUPS,
            permission=Permission.BACKUPS,
            audited="backup.delete",
        ),
        Route(
            "POST",
            f"{one}/restore",
            Who.SIGNED_IN,
            backups.restore(ctype),
            "Put a container's files back as they were",
            backups.Restoring,
            202,
            backups.RestoreBackup,
            scope=Scope.BACKUPS,
            permission=Permission.BACKUPS,
            idempotent=True,
            audited="backup.restore",
        ),
    )


BACKUPS = (*_backups(ContainerType.GAME), *_backups(ContainerType.DEV))
