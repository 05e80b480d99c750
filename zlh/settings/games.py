"""config/games.toml: what must be known of each game."""

from __future__ import annotations

from pathlib import Path

from zlh.model.games import Games, parse_games
from zlh.settings.load import Problems, read_toml
from zlh.settings.problems import SettingsError


def load_games(path: Path) -> Games:
    """Raises SettingsError with every problem."""
    problems = Problems()
    document = read_toml(path, problems)
    problems.raise_if_any()
    try:
        return parse_games(document)
    except ValueError as error:
        raise SettingsError([f"{path}: {problem}" for problem in str(error).splitlines()]) from None
