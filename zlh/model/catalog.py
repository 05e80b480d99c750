"""What can be had: games with their variants and versions, runtimes with their versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Variant:
    id: str
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Game:
    id: str
    variants: tuple[Variant, ...]


@dataclass(frozen=True, slots=True)
class Runtime:
    id: str
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    games: tuple[Game, ...] = ()
    runtimes: tuple[Runtime, ...] = ()

    def has_game(self, game: str, variant: str, version: str) -> bool:
        return any(
            version in known.versions
            for entry in self.games
            if entry.id == game
            for known in entry.variants
            if known.id == variant
        )

    def has_runtime(self, runtime: str, version: str) -> bool:
        return any(version in entry.versions for entry in self.runtimes if entry.id == runtime)

    def games_as_dict(self) -> dict[str, Any]:
        """The body of GET /api/catalog/game."""
        return {
            "games": [
                {
                    "id": game.id,
                    "variants": [{"id": variant.id, "versions": list(variant.versions)} for variant in game.variants],
                }
                for game in self.games
            ]
        }

    def runtimes_as_dict(self) -> dict[str, Any]:
        """The body of GET /api/catalog/dev."""
        return {"runtimes": [{"id": runtime.id, "versions": list(runtime.versions)} for runtime in self.runtimes]}

    def as_dict(self) -> dict[str, Any]:
        """Both: `{"games": [...], "runtimes": [...]}`."""
        return self.games_as_dict() | self.runtimes_as_dict()
