"""Mods of a game."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, StringConstraints, model_validator

from zlh.api.bodies import Body, Query, printable
from zlh.api.forwarding import GAME, LONG_SECONDS, Anything, Forwarded, Told
from zlh.model.access import Permission, Scope
from zlh.model.agent_calls import Feature

Word = Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(printable)]
Address = Annotated[str, StringConstraints(min_length=1, max_length=2048), AfterValidator(printable)]


class Mod(Told):
    id: str
    name: str
    version: str | None = None
    enabled: bool
    source: str | None = None


class Mods(Told):
    mods: list[Mod]


class Newer(Told):
    id: str
    current: str
    latest: str


class ModUpdates(Told):
    updates: list[Newer]


class Installing(Told):
    id: str


class ModSearch(Query):
    q: Word


class InstallMod(Body):
    """`id` is the mod's name at its source; for the source `url` it is `url` instead."""

    source: Literal["modrinth", "curseforge", "url"]
    id: Word | None = None
    url: Address | None = None
    version: Word | None = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.source != "url" and self.id is None:
            raise ValueError(f"a mod of {self.source} needs its id")
        if self.source == "url" and not (self.url or "").startswith(("https://", "http://")):
            raise ValueError("a mod by url needs one that begins with https:// or http://")
        return self


class ChangeMod(Body):
    """Enable or disable it, or change to another version."""

    enabled: bool | None = None
    version: Word | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.enabled is None and self.version is None:
            raise ValueError("at least one of enabled and version is needed")
        return self


def _mod(method: str, path: str, summary: str, **given: Any) -> Forwarded:
    feature = given.pop("feature", Feature.MODS)
    return Forwarded(
        method=method,
        path=path,
        summary=summary,
        feature=feature,
        permission=Permission.MODS,
        scope=Scope.MODS,
        ctypes=GAME,
        **given,
    )


MODS = (
    _mod("GET", "mods", "Installed mods", answer=Mods),
    _mod("GET", "mods/search", "Mods to install, in the agent's words", answer=Anything, query=ModSearch),
    _mod(
        "GET",
        "mods/updates",
        "Installed mods of which there is a newer version",
        feature=Feature.MOD_UPDATES,
        answer=ModUpdates,
        seconds=30.0,
    ),
    _mod(
        "POST",
        "mods",
        "Install a mod",
        answer=Installing,
        status=202,
        body=InstallMod,
        action="mod.install",
        facts={"source": "source", "id": "mod", "version": "version"},
        seconds=LONG_SECONDS,
    ),
    _mod(
        "PATCH",
        "mods/<mod_id>",
        "Enable or disable a mod, or change its version",
        body=ChangeMod,
        action="mod.change",
        facts={"mod_id": "mod", "enabled": "enabled", "version": "version"},
        newer={"version": Feature.MOD_UPDATES},
        seconds=LONG_SECONDS,
    ),
    _mod(
        "DELETE",
        "mods/<mod_id>",
        "Remove a mod",
        status=204,
        action="mod.remove",
        facts={"mod_id": "mod"},
    ),
)
