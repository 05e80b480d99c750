"""What must be known of each game (config/games.toml), and the payload that tells an agent what to install."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zlh.model.containers import Container, ContainerType

GENERIC = "generic"
ANY_VARIANT = "any"
CODE_SERVER_PORT = 8443
_PARTS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Java:
    """From `since` on (compared part by part, as numbers) a game needs the Java at `path` of the artifact server."""

    since: tuple[int, ...]
    path: str


@dataclass(frozen=True, slots=True)
class GameFacts:
    """`service` and `proto` ("tcp" or "udp") name the DNS service; `ports` are the usual ones, the first the game's.

    `artifacts` maps a variant, or "any", to a path on the artifact server with places for {game}, {variant} and
    {version}. `javas` is ordered newest first, and empty for a game that needs none. `velocity`: where there is a
    Velocity proxy, players reach the game through it.
    """

    service: str
    proto: str
    ports: tuple[int, ...]
    artifacts: Mapping[str, str]
    javas: tuple[Java, ...] = ()
    world: str = ""
    velocity: bool = False

    def artifact_path(self, game: str, variant: str, version: str) -> str:
        """Raises KeyError where the variant has no artifact."""
        template = self.artifacts.get(variant) or self.artifacts[ANY_VARIANT]
        return template.format(game=game, variant=variant, version=version)

    def java_path(self, version: str) -> str:
        """Empty where the game needs no Java."""
        parts = version_parts(version)
        for java in self.javas:
            if parts >= java.since:
                return java.path
        return self.javas[-1].path if self.javas else ""


@dataclass(frozen=True, slots=True)
class Games:
    facts: Mapping[str, GameFacts]

    def of(self, game: str) -> GameFacts:
        """What is known of the game; of one that has no entry, what is true of any."""
        return self.facts.get(game) or self.facts[GENERIC]


def version_parts(version: str) -> tuple[int, ...]:
    """The numbers in a version, for comparison: "1.20.5" is (1, 20, 5), a snapshot such as "24w14a" (24, 14)."""
    return tuple(int(part) for part in _PARTS.findall(version)[:6])


def agent_payload(container: Container, games: Games) -> dict[str, Any]:
    """The body of the agent's POST /config. Raises KeyError for a variant that has no artifact."""
    if container.ctype is ContainerType.GAME:
        return game_payload(container, games)
    return dev_payload(container)


def game_payload(container: Container, games: Games) -> dict[str, Any]:
    software = container.software
    facts = games.of(software.name)
    return {
        "vmid": container.vmid,
        "container_type": "game",
        "game": software.name,
        "variant": software.variant,
        "version": software.version,
        "world": software.world or facts.world,
        "ports": list(container.ports or facts.ports),
        "artifact_path": facts.artifact_path(software.name, software.variant, software.version),
        "java_path": facts.java_path(software.version),
        "memory_mb": container.resources.memory_mib,
        "agent_token": container.agent_token,
    }


def dev_payload(container: Container) -> dict[str, Any]:
    return {
        "vmid": container.vmid,
        "container_type": "dev",
        "runtime": container.software.name,
        "version": container.software.version,
        "memory_mb": container.resources.memory_mib,
        "agent_token": container.agent_token,
        "code_server": {"enabled": True, "port": CODE_SERVER_PORT},
    }


def parse_games(document: Mapping[str, Any]) -> Games:
    """From config/games.toml as a mapping. Raises ValueError that lists every problem, one to a line."""
    problems: list[str] = []
    facts = {name: _facts(name, table, problems) for name, table in document.items()}
    if GENERIC not in facts:
        problems.append(f"[{GENERIC}] is missing: it stands for games that have no entry")
    if problems:
        raise ValueError("\n".join(problems))
    return Games({name: entry for name, entry in facts.items() if entry is not None})


def _facts(name: str, table: Any, problems: list[str]) -> GameFacts | None:
    if not isinstance(table, Mapping):
        problems.append(f"{name}: a table expected")
        return None
    before = len(problems)
    unknown = set(table) - {"service", "proto", "ports", "artifacts", "java", "world", "velocity"}
    problems += [f"[{name}] {key}: unknown" for key in sorted(unknown)]
    service, proto, ports = table.get("service"), table.get("proto"), table.get("ports")
    if not isinstance(service, str) or not service:
        problems.append(f"[{name}] service: a name expected")
    if proto not in ("tcp", "udp"):
        problems.append(f"[{name}] proto: tcp or udp expected")
    if not isinstance(ports, list) or not all(type(port) is int and 0 < port < 65536 for port in ports):
        problems.append(f"[{name}] ports: a list of port numbers expected")
    world = table.get("world", "")
    if not isinstance(world, str):
        problems.append(f"[{name}] world: a name expected")
    velocity = table.get("velocity", False)
    if not isinstance(velocity, bool):
        problems.append(f"[{name}] velocity: true or false expected")
    artifacts = _artifacts(name, table.get("artifacts"), problems)
    javas = _javas(name, table.get("java", []), problems)
    if len(problems) > before:
        return None
    return GameFacts(str(service), str(proto), tuple(ports or ()), artifacts, javas, world, velocity)


def _artifacts(name: str, table: Any, problems: list[str]) -> dict[str, str]:
    if not isinstance(table, Mapping) or not table:
        problems.append(f"[{name}.artifacts]: a table of paths expected")
        return {}
    for variant, path in table.items():
        try:
            path.format(game="g", variant="v", version="1")
        except (AttributeError, KeyError, IndexError, ValueError):
            problems.append(f"[{name}.artifacts] {variant}: a path with {{game}}, {{variant}}, {{version}} expected")
    return dict(table)


def _javas(name: str, entries: Any, problems: list[str]) -> tuple[Java, ...]:
    if not isinstance(entries, list):
        problems.append(f"[[{name}.java]]: a list of tables expected")
        return ()
    javas = []
    for entry in entries:
        since, path = (entry.get("since"), entry.get("path")) if isinstance(entry, Mapping) else (None, None)
        if not isinstance(since, str) or not version_parts(since) or not isinstance(path, str):
            problems.append(f"[[{name}.java]]: `since`, a version, and `path` expected")
            continue
        javas.append(Java(version_parts(since), path))
    return tuple(sorted(javas, key=lambda java: java.since, reverse=True))
