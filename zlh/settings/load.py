"""From a TOML file, the environment and secret files to Settings.

The environment (`ZLH_SECTION_KEY`) wins over the file, the file over the defaults. Everything that is wrong is
reported at once: a person who starts a server should fix its settings in one go.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from zlh.settings import values
from zlh.settings.problems import SettingsError, unknown
from zlh.settings.tree import Settings

PREFIX = "ZLH_"
NOT_SETTINGS = frozenset({"ZLH_PYTHON", "ZLH_PASSWORD", "ZLH_API_KEY"})


class Problems:
    """Collects sentences; `origin` is the file's or the variable's name."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, origin: str, key: str, problem: str) -> None:
        self.found.append(f"{origin}: {key}: {problem}" if key else f"{origin}: {problem}")

    def raise_if_any(self) -> None:
        if self.found:
            raise SettingsError(self.found)


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Raises SettingsError with every problem. `path` None means defaults and environment only."""
    problems = Problems()
    document = read_toml(path, problems) if path is not None else {}
    origin = str(path)
    sections = {section.name: section for section in dataclasses.fields(Settings)}
    for name in document.keys() - sections.keys():
        problems.add(origin, f"[{name}]", unknown(name, sections))
    hints = get_type_hints(Settings)
    built = {}
    for name in sections:
        table = document.get(name, {})
        chosen = read_table(hints[name], table, origin, f"[{name}] ", problems)
        chosen |= _from_environment(hints[name], name, environ, problems)
        chosen |= _secrets(hints[name], name, chosen, problems)
        built[name] = hints[name](**{key: value for key, (value, _) in chosen.items()})
    _refuse_unknown_variables(environ, problems)
    settings = Settings(**built)
    for sentence in _contradictions(settings):
        problems.add("settings", "", sentence)
    problems.raise_if_any()
    return settings


Chosen = dict[str, tuple[Any, str]]


def read_toml(path: Path, problems: Problems) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        problems.add(str(path), "", f"cannot be read: {error.strerror or error}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.add(str(path), "", f"is not TOML: {error}")
    return {}


def read_table(cls: type, table: Any, origin: str, prefix: str, problems: Problems) -> Chosen:
    """The good values of a TOML table for a dataclass, each with where it came from; the rest become problems."""
    if not isinstance(table, dict):
        problems.add(origin, prefix.strip(), "a table expected")
        return {}
    fields = {item.name: item for item in dataclasses.fields(cls)}
    hints = get_type_hints(cls)
    chosen: Chosen = {}
    for name, raw in table.items():
        if name not in fields:
            problems.add(origin, prefix + name, unknown(name, fields))
            continue
        try:
            value = values.fit(hints[name], raw)
        except ValueError as error:
            problems.add(origin, prefix + name, str(error))
            continue
        complaint = values.bounds(fields[name], value)
        if complaint:
            problems.add(origin, prefix + name, complaint)
        else:
            chosen[name] = (value, f"{origin}: {prefix}{name}")
    return chosen


def _variable(section: str, name: str) -> str:
    return f"{PREFIX}{section}_{name}".upper()


def _from_environment(cls: type, section: str, environ: Mapping[str, str], problems: Problems) -> Chosen:
    hints = get_type_hints(cls)
    chosen: Chosen = {}
    for item in dataclasses.fields(cls):
        variable = _variable(section, item.name)
        if variable not in environ:
            continue
        try:
            value = values.parse(hints[item.name], environ[variable])
        except ValueError as error:
            problems.add(variable, "", str(error))
            continue
        complaint = values.bounds(item, value)
        if complaint:
            problems.add(variable, "", complaint)
        else:
            chosen[item.name] = (value, variable)
    return chosen


def _secrets(cls: type, section: str, chosen: Chosen, problems: Problems) -> Chosen:
    """The secrets that are named by their file."""
    found: Chosen = {}
    for item in dataclasses.fields(cls):
        path, origin = chosen.get(f"{item.name}_file", ("", ""))
        if not item.metadata.get("secret") or not path:
            continue
        if chosen.get(item.name, ("", ""))[0]:
            problems.add(origin, "", f"[{section}] {item.name} is set too; one of the two is enough")
            continue
        try:
            found[item.name] = (Path(path).read_text("utf-8").strip(), origin)
        except (OSError, UnicodeDecodeError) as error:
            problems.add(origin, "", f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")
            continue
        complaint = values.bounds(item, found[item.name][0]) if found[item.name][0] else f"{path} is empty"
        if complaint:
            problems.add(origin, "", complaint)
    return found


def _refuse_unknown_variables(environ: Mapping[str, str], problems: Problems) -> None:
    """A variable that looks like a setting and is none is a misspelling. Other ZLH_ variables are somebody else's."""
    known = {
        _variable(section.name, item.name)
        for section in dataclasses.fields(Settings)
        for item in dataclasses.fields(get_type_hints(Settings)[section.name])
    }
    sections = tuple(_variable(section.name, "") for section in dataclasses.fields(Settings))
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in known or variable in NOT_SETTINGS:
            continue
        sentence = unknown(variable, known)
        if variable.startswith(sections) or sentence != "unknown":
            problems.add(variable, "", sentence)


def _contradictions(settings: Settings) -> list[str]:
    found = []
    proxmox, containers = settings.proxmox, settings.containers
    if bool(proxmox.token_id) != bool(proxmox.token_secret):
        found.append("[proxmox] token_id and token_secret belong together; only one is set")
    if bool(proxmox.username) != bool(proxmox.password):
        found.append("[proxmox] username and password belong together; only one is set")
    if proxmox.token_id and proxmox.username:
        found.append("[proxmox] sign in either with token_id or with username, not both")
    if proxmox.ca_file and proxmox.pinned_certificate_file:
        found.append("[proxmox] ca_file and pinned_certificate_file exclude each other")
    first, second = sorted((containers.game_vmids, containers.dev_vmids))
    if second[0] <= first[1]:
        found.append("[containers] game_vmids and dev_vmids overlap")
    if bool(settings.stripe.secret_key) != bool(settings.stripe.webhook_secret):
        found.append("[stripe] secret_key and webhook_secret belong together; only one is set")
    templates = (*containers.game_templates, *containers.dev_templates)
    for low, high in (first, second):
        found += [f"[containers] template {vmid} lies in a vmid range" for vmid in templates if low <= vmid <= high]
    return found
