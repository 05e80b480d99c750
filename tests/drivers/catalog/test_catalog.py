"""The catalog: fetched from a real server that may do anything, kept, and shipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.agents import until
from zlh.drivers.catalog import CatalogSource, parse_catalog
from zlh.drivers.errors import DriverError, Invalid, NotFound, Refused, Unreachable
from zlh.model.catalog import Catalog, Game, Runtime, Variant
from zlh.simulators.agent.http import Refusal, Request, Response, json_response, listen, serve

SHIPPED = Path(__file__).parents[3] / "config" / "catalog.json"
GAMES = {"games": [{"id": "minecraft", "variants": [{"id": "paper", "versions": ["1.21.1"]}], "new": 1}]}
RUNTIMES = {"runtimes": [{"id": "python", "versions": ["3.13"]}]}
FETCHED = Catalog((Game("minecraft", (Variant("paper", ("1.21.1",)),)),), (Runtime("python", ("3.13",)),))


class Artifacts:
    """An artifact server; `documents` maps a path to what it answers."""

    def __init__(self) -> None:
        self.documents: dict[str, Any] = {"/_catalog.json": GAMES, "/devcontainer/_catalog.json": RUNTIMES}
        self.url = ""

    async def run(self, *, task_status: trio.TaskStatus[Artifacts]) -> None:
        listener = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        task_status.started(self)
        await serve(listener, self._answer)

    async def _answer(self, request: Request) -> Response:
        found = self.documents.get(request.path)
        if found is None:
            raise Refusal(404, "no such file")
        return found if isinstance(found, Response) else json_response(found)


@pytest.fixture
async def artifacts(nursery):
    return await nursery.start(Artifacts().run)


def test_the_shipped_catalog_without_a_server(tmp_path):
    source = CatalogSource("", SHIPPED, tmp_path / "kept.json")
    assert source.load().has_game("minecraft", "paper", "1.21.1")
    assert source.catalog.has_runtime("python", "3.13")
    assert source.origin.startswith("shipped")
    assert source.catalog.as_dict() == json.loads(SHIPPED.read_text("utf-8"))


async def test_without_a_server_a_refresh_changes_nothing(tmp_path):
    source = CatalogSource(None, SHIPPED, tmp_path / "kept.json")
    before = source.load()
    assert await source.refresh() is before
    assert not (tmp_path / "kept.json").exists()


async def test_a_fetched_catalog_is_kept_over_a_restart(artifacts, tmp_path):
    kept = tmp_path / "data" / "kept.json"
    source = CatalogSource(artifacts.url + "/", SHIPPED, kept)
    source.load()
    assert await source.refresh() == FETCHED == source.catalog
    assert source.origin.startswith(artifacts.url)
    assert source.problem is None

    again = CatalogSource(artifacts.url, SHIPPED, kept)
    assert again.load() == FETCHED
    assert again.origin.startswith(f"kept copy of {artifacts.url} as of 20")

    other = CatalogSource("http://127.0.0.1:1", SHIPPED, kept)
    assert other.load() != FETCHED
    assert other.origin.startswith("shipped")


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (None, NotFound),
        (Response(500), Refused),
        (Response(302, headers=(("Location", "/devcontainer/_catalog.json"),)), Refused),
        (Response(200, b"<html>"), Invalid),
        (Response(200, b'{"games": []}', headers=(("Content-Encoding", "gzip"),)), None),
        (Response(200, b"\x1f\x8b", headers=(("Content-Encoding", "gzip"),)), Invalid),
        (Response(200, b'{"games": []}' + b" " * (5 << 20)), Invalid),
        ([], Invalid),
        ({"games": {}}, Invalid),
        ({"games": [{"id": "../etc", "variants": []}]}, Invalid),
        ({"games": [{"id": "..", "variants": []}]}, Invalid),
        ({"games": [{"id": "a/b", "variants": []}]}, Invalid),
        ({"games": [{"id": "a", "variants": [{"id": "b", "versions": ["1", 2]}]}]}, Invalid),
    ],
)
async def test_a_bad_answer_leaves_the_last_good_catalog(artifacts, tmp_path, document, kind):
    source = CatalogSource(artifacts.url, SHIPPED, tmp_path / "kept.json")
    await source.refresh()
    artifacts.documents["/_catalog.json"] = document
    if kind is None:
        await source.refresh()
        return
    with trio.fail_after(10), pytest.raises(kind):
        await source.refresh()
    assert source.catalog == FETCHED
    assert source.problem
    assert CatalogSource(artifacts.url, SHIPPED, tmp_path / "kept.json").load() == FETCHED


async def test_nobody_there_is_unreachable(tmp_path):
    for url in ("http://127.0.0.1:1", "http://[", "nonsense"):
        source = CatalogSource(url, SHIPPED, tmp_path / "kept.json")
        with trio.fail_after(10), pytest.raises(Unreachable):
            await source.refresh()


async def test_a_slow_server_is_given_up(nursery, tmp_path, monkeypatch):
    monkeypatch.setattr("zlh.drivers.catalog.FETCH_SECONDS", 0.1)

    async def never(request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    listener = listen("127.0.0.1", 0)
    nursery.start_soon(serve, listener, never)
    source = CatalogSource(f"http://127.0.0.1:{listener.getsockname()[1]}", SHIPPED, tmp_path / "kept.json")
    with trio.fail_after(5), pytest.raises(Unreachable):
        await source.refresh()


async def test_keeping_fresh_goes_on_over_failures(artifacts, tmp_path):
    good = artifacts.documents.pop("/_catalog.json")
    source = CatalogSource(artifacts.url, SHIPPED, tmp_path / "kept.json")
    source.load()
    async with trio.open_nursery() as keeping:
        keeping.start_soon(source.keep_fresh, 0.01)
        await until(lambda: source.problem is not None)
        artifacts.documents["/_catalog.json"] = good
        await until(lambda: source.catalog == FETCHED)
        keeping.cancel_scope.cancel()
    assert source.problem is None


@pytest.mark.parametrize("content", [b"", b"[]", b'{"games": 7}', b"\xff"])
def test_a_damaged_copy_is_not_used(tmp_path, content):
    kept = tmp_path / "kept.json"
    kept.write_bytes(content)
    source = CatalogSource("http://127.0.0.1:1", SHIPPED, kept)
    source.load()
    assert source.origin.startswith("shipped")
    assert source.problem


async def test_a_copy_that_cannot_be_written_is_told(artifacts, tmp_path):
    (tmp_path / "file").write_text("in the way")
    source = CatalogSource(artifacts.url, SHIPPED, tmp_path / "file" / "kept.json")
    assert await source.refresh() == FETCHED
    assert "cannot be kept" in str(source.problem)


def test_what_is_in_the_catalog():
    assert FETCHED.has_game("minecraft", "paper", "1.21.1")
    assert not FETCHED.has_game("minecraft", "paper", "1.21")
    assert not FETCHED.has_game("minecraft", "forge", "1.21.1")
    assert not FETCHED.has_game("rust", "paper", "1.21.1")
    assert not FETCHED.has_runtime("python", "2")
    assert FETCHED.runtimes_as_dict() == RUNTIMES


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["a", "1.0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "variants", "versions", "games", "runtimes"]), inner, max_size=4)
    ),
)


@given(st.dictionaries(st.sampled_from(["games", "runtimes", "id"]), JSON))
def test_any_document_is_a_catalog_or_invalid(document):
    try:
        catalog = parse_catalog(document)
    except DriverError as error:
        assert isinstance(error, Invalid)  # noqa: PT017 - either outcome is right, nothing else is
        return
    assert parse_catalog(catalog.as_dict()) == catalog
