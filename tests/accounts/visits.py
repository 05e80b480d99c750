"""Coming in at a console, as the gateway asks for it."""

from __future__ import annotations

from zlh.accounts import AccessTable
from zlh.accounts.grants import AccessGrant
from zlh.model.access import Permission, Scope


def enter_console(table: AccessTable, token: str, vmid: int, address: str = "") -> AccessGrant:
    return table.enter(token, vmid, Permission.WATCH, Scope.CONSOLE, changes=False, address=address)
