"""Commands that ask the API that runs, with an operator's API key."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import httpx
import orjson

from zlh.commands.parsing import Commands
from zlh.settings import Settings

KEY = "ZLH_API_KEY"
SECONDS = 60.0


def add_asking(commands: Commands, name: str, told: str) -> argparse.ArgumentParser:
    """A command with what all of them take; `told` is its help."""
    parser = commands.add_parser(name, help=told, description=f"{told}. {KEY} holds an operator's API key.")
    parser.add_argument("--url", default="", help="where the API is reached (default: as the settings say)")
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    return parser


async def ask(
    options: argparse.Namespace, settings: Settings, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Raises OSError, whose words are for a person, where there is no good answer."""
    key = os.environ.get(KEY, "")
    if not key:
        raise OSError(f"{KEY} is not set: an operator makes such a key with POST /api/auth/api-keys, scope operator")
    url = options.url or _url(settings)
    try:
        async with httpx.AsyncClient(timeout=SECONDS, trust_env=False) as client:
            answer = await client.request(
                method, url.rstrip("/") + path, json=body, headers={"Authorization": f"Bearer {key}"}
            )
        told = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OSError(f"the API at {url} does not answer: {error}") from None
    except ValueError:
        raise OSError(f"what answers at {url} is not this API") from None
    if answer.status_code != 200 or not isinstance(told, dict):
        words = told.get("error") if isinstance(told, dict) else None
        raise OSError(f"the API said {answer.status_code}: {words or 'no reason'}")
    return told


def _url(settings: Settings) -> str:
    server = settings.server
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104 - compared, not bound
    return server.public_url or f"http://{f'[{host}]' if ':' in host else host}:{server.port}"


def print_json(answer: dict[str, Any]) -> int:
    """For programs; the exit status of who says no more."""
    sys.stdout.write(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode() + "\n")
    return 0
