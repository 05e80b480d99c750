"""What the documents say is held against the program: commands, settings, routes and links."""

from __future__ import annotations

import argparse
import dataclasses
import re
import subprocess
from pathlib import Path
from typing import get_type_hints

import pytest

from zlh.__main__ import _parser
from zlh.api.routes import ROUTES
from zlh.settings import Settings
from zlh.settings.load import NOT_SETTINGS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROSE = [*PAGES, *sorted((ROOT / "config").glob("*.toml")), ROOT / "dev"]


def names(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PROSE, ids=names)
def test_every_dev_command_that_is_named_exists(page: Path) -> None:
    known = set(re.findall(r"^    ([a-z |-]+)\)$", (ROOT / "dev").read_text(), re.MULTILINE))
    commands = {word.strip() for line in known for word in line.split("|")}
    assert {"demo", "serve", "test", "check", "bench", "help"} <= commands
    named = set(re.findall(r"\./dev ([a-z]+)", page.read_text()))
    assert named <= commands


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_program_command_that_is_named_parses(page: Path) -> None:
    for line in re.findall(r"\./dev (zlh .+)", page.read_text()):
        # In a sentence the command ends with its quotation.
        words = re.sub(r"[*)|,.]*$", "", line.split("#")[0].split("`")[0]).split()[1:]
        if words[:1] == ["demo"]:
            continue
        try:
            _parser().parse_args(words)
        except SystemExit:
            pytest.fail(f"{names(page)}: zlh does not understand {' '.join(words)}")


@pytest.mark.parametrize("page", PROSE, ids=names)
def test_every_variable_that_is_named_is_a_setting(page: Path) -> None:
    known = {
        f"ZLH_{section.name}_{key.name}".upper()
        for section in dataclasses.fields(Settings)
        for key in dataclasses.fields(get_type_hints(Settings)[section.name])
    }
    named = set(re.findall(r"\bZLH_[A-Z0-9_]*[A-Z0-9]\b", page.read_text()))
    assert named <= known | NOT_SETTINGS


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_route_that_is_named_exists(page: Path) -> None:
    paths = [re.sub(r"<[^>]+>", "[^/]+", route.path) for route in ROUTES]
    # Consoles never reach the application; see zlh/gateway/console.py.
    paths.append("/api/servers/[^/]+/console/stream")
    for path in re.findall(r"(?:GET|POST|PUT|PATCH|DELETE) (/(?:api|metrics)[A-Za-z0-9/<>_-]*)", page.read_text()):
        plain = re.sub(r"<[^>]+>", "x", path)
        assert any(re.fullmatch(known, plain) for known in paths), f"{names(page)}: {path}"


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{names(page)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    for target in re.findall(r"`((?:zlh|actors|tests|config|docs)/[a-z_/.*-]*)`", page.read_text()):
        assert list(ROOT.glob(target.rstrip("/"))), f"{names(page)}: {target}"


def test_dev_says_what_it_can_do() -> None:
    told = subprocess.run([ROOT / "dev", "help"], capture_output=True, text=True, check=True).stdout
    for command in ("demo", "serve", "test", "check", "bench", "help"):
        assert f"./dev {command}" in told
    refused = subprocess.run([ROOT / "dev", "nonsense"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "unknown command 'nonsense'" in refused.stderr


def test_the_readme_fits_on_two_screens() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 80


def test_every_command_of_the_program_has_a_sentence_of_help() -> None:
    def walk(parser: argparse.ArgumentParser) -> None:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                helped = {choice.dest for choice in action._choices_actions if choice.help}
                assert helped == set(action.choices)
                for child in action.choices.values():
                    walk(child)

    walk(_parser())
