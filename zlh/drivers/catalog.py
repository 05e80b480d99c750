"""The catalog of games and runtimes, from an artifact server, the last good copy of it, or the one that we ship."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
import orjson
import trio

from zlh.drivers.errors import DriverError, Invalid, NotFound, Refused, Unreachable
from zlh.model.catalog import Catalog, Game, Runtime, Variant

T = TypeVar("T")

GAMES_PATH = "_catalog.json"
RUNTIMES_PATH = "devcontainer/_catalog.json"
MAX_BYTES = 4 << 20
MAX_ENTRIES = 2000
# Never compressed: a small answer must not unpack into a large one.
HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}
FETCH_SECONDS = 20.0

# Names and versions become parts of artifact paths: no slash, and no dot in front, so none leads anywhere else.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


class CatalogSource:
    """`base_url` is the artifact server (None or empty: only the shipped catalog); `cache_file` keeps its last good
    answer over restarts, and is ignored where it came from another server.

    `origin` says in words where the present catalog came from, `problem` why the last refresh failed (None: it did
    not). A refresh that fails changes nothing.
    """

    def __init__(self, base_url: str | None, shipped: Path, cache_file: Path) -> None:
        self._base_url = base_url.rstrip("/") if base_url else None
        self._shipped = shipped
        self._cache_file = cache_file
        self.catalog = Catalog()
        self.origin = "not loaded"
        self.problem: str | None = None

    def load(self) -> Catalog:
        """From the disk, before anything was fetched: the last good copy, otherwise the shipped catalog.

        Raises OSError or Invalid where the shipped catalog cannot be used: that is a broken installation.
        """
        kept = self._load_cache() if self._base_url else None
        if kept is None:
            self.catalog = parse_catalog(_parse_json(self._shipped.read_bytes()))
            self.origin = f"shipped with this version ({self._shipped.name})"
        return self.catalog

    def _load_cache(self) -> Catalog | None:
        try:
            kept = _parse_json(self._cache_file.read_bytes())
            catalog = parse_catalog(kept)
        except FileNotFoundError:
            return None
        except (OSError, Invalid) as error:
            self.problem = f"the kept copy cannot be used: {error}"
            return None
        if kept.get("source") != self._base_url:
            return None
        self.catalog = catalog
        self.origin = f"kept copy of {self._base_url} as of {str(kept.get('fetchedAt'))[:32]}"
        return catalog

    async def refresh(self) -> Catalog:
        """Fetches both documents, and keeps them. Without a server it answers what there is.

        Raises Unreachable, Refused, NotFound, Invalid; the catalog stays as it was then.
        """
        if self._base_url is None:
            return self.catalog
        try:
            catalog = await self._fetch(self._base_url)
        except DriverError as error:
            self.problem = error.message
            raise
        at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self.catalog, self.origin, self.problem = catalog, f"{self._base_url} at {at}", None
        kept = orjson.dumps(catalog.as_dict() | {"source": self._base_url, "fetchedAt": at})
        try:
            await trio.to_thread.run_sync(_replace, self._cache_file, kept)
        except OSError as error:
            self.problem = f"the catalog cannot be kept: {error.strerror}"
        return catalog

    async def keep_fresh(self, seconds: float) -> None:
        """Refreshes now and every `seconds`, for ever; a failure is told by `problem`."""
        while True:
            try:
                await self.refresh()
            except DriverError:
                pass
            await trio.sleep(seconds)

    async def _fetch(self, base_url: str) -> Catalog:
        async with httpx.AsyncClient(timeout=FETCH_SECONDS, trust_env=False, follow_redirects=False) as client:
            with trio.move_on_after(FETCH_SECONDS):
                games = await _get(client, f"{base_url}/{GAMES_PATH}")
                runtimes = await _get(client, f"{base_url}/{RUNTIMES_PATH}")
                return Catalog(parse_catalog(games).games, parse_catalog(runtimes).runtimes)
        raise Unreachable(f"{base_url} took longer than {FETCH_SECONDS:g} s")


async def _get(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    body = bytearray()
    try:
        async with client.stream("GET", url, headers=HEADERS) as answer:
            _check_status(url, answer.status_code)
            async for piece in answer.aiter_raw():
                body += piece
                if len(body) > MAX_BYTES:
                    raise Invalid(f"{url} answered more than {MAX_BYTES} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreachable(f"{url}: {error or type(error).__name__}") from error
    try:
        return _parse_json(bytes(body))
    except Invalid as error:
        raise Invalid(f"{url}: {error.message}") from None


def _check_status(url: str, status: int) -> None:
    if status == 404:
        raise NotFound(f"{url} does not exist")
    if status != 200:
        raise Refused(f"{url} answered with status {status}", status=status)


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(content)
    os.replace(fresh, path)


def _parse_json(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Invalid("not JSON") from None
    if not isinstance(value, dict):
        raise Invalid("not a JSON object")
    return value


def parse_catalog(document: dict[str, Any]) -> Catalog:
    """From `{"games": [{"id", "variants": [{"id", "versions"}]}], "runtimes": [{"id", "versions"}]}`; either may be
    missing, unknown fields are ignored. Raises Invalid that names the place."""
    games = _entries(document, "games", "", _game)
    runtimes = _entries(document, "runtimes", "", lambda entry, at: Runtime(_id(entry, at), _versions(entry, at)))
    return Catalog(games, runtimes)


def _game(entry: dict[str, Any], at: str) -> Game:
    variants = _entries(
        entry, "variants", at + ".", lambda item, here: Variant(_id(item, here), _versions(item, here))
    )
    return Game(_id(entry, at), variants)


def _entries(
    document: dict[str, Any], name: str, place: str, parse: Callable[[dict[str, Any], str], T]
) -> tuple[T, ...]:
    entries = document.get(name, [])
    if not isinstance(entries, list) or len(entries) > MAX_ENTRIES:
        raise Invalid(f"`{place}{name}` is not a list of at most {MAX_ENTRIES}")
    parsed = []
    for index, entry in enumerate(entries):
        at = f"{place}{name}[{index}]"
        if not isinstance(entry, dict):
            raise Invalid(f"`{at}` is not an object")
        parsed.append(parse(entry, at))
    return tuple(parsed)


def _id(entry: dict[str, Any], at: str) -> str:
    return _checked_name(entry.get("id"), f"{at}.id")


def _versions(entry: dict[str, Any], at: str) -> tuple[str, ...]:
    versions = entry.get("versions")
    if not isinstance(versions, list) or len(versions) > MAX_ENTRIES:
        raise Invalid(f"`{at}.versions` is not a list of at most {MAX_ENTRIES}")
    return tuple(_checked_name(version, f"{at}.versions[{index}]") for index, version in enumerate(versions))


def _checked_name(value: Any, at: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Invalid(f"`{at}` is not a name of letters, digits, dots, dashes, plus signs and underscores")
    return value
