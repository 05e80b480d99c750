"""Settings: TOML file, environment and secret files become one frozen object, for the composition root."""

from zlh.settings.games import load_games
from zlh.settings.load import load_settings
from zlh.settings.plans import load_plans
from zlh.settings.problems import SettingsError
from zlh.settings.tree import (
    Accounts,
    Catalog,
    Console,
    Containers,
    Database,
    Log,
    Polling,
    Provisioning,
    Proxmox,
    Secrets,
    Server,
    Settings,
)

__all__ = [
    "Accounts",
    "Catalog",
    "Console",
    "Containers",
    "Database",
    "Log",
    "Polling",
    "Provisioning",
    "Proxmox",
    "Secrets",
    "Server",
    "Settings",
    "SettingsError",
    "load_games",
    "load_plans",
    "load_settings",
]
