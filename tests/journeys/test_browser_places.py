"""The two other ways to an IDE in a real browser, by path and by https; a small program stands in for the IDE."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fakepve.certs import make_cert

from tests.gateway.ide import TOKEN, VMID, Scene, open_scene
from tests.journeys.beside import beside, tls_before
from tests.journeys.browsing import NEEDED
from tests.journeys.shop import answer, is_served
from zlh.model.games import CODE_SERVER_PORT

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = NEEDED

ZONE = "zlh.localhost"
FOREIGN = VMID + 1


@asynccontextmanager
async def open_shop(zone: str) -> AsyncIterator[Scene]:
    async with open_scene(zone=zone) as scene:
        scene.program.answer = partial(answer, scene.program.address, CODE_SERVER_PORT)
        yield scene


@asynccontextmanager
async def open_shop_by_https(zone: str, certificate: str, key: str) -> AsyncIterator[int]:
    """The TLS proxy's port."""
    async with open_scene(zone=zone, secure=True) as scene, tls_before(scene.port, certificate, key) as port:
        scene.program.answer = partial(answer, scene.program.address, CODE_SERVER_PORT)
        yield port


def cookies(page: Page) -> dict[str, tuple[str, str, bool, bool]]:
    return {
        str(each["name"]): (each["domain"], each["path"], each["secure"], each["httpOnly"])
        for each in page.context.cookies()
    }


def test_by_path_redirects_cookies_and_websockets_stay_below_it(page: Page) -> None:
    with beside(partial(open_shop, "")) as scene:
        root, place = f"http://127.0.0.1:{scene.port}", f"/ide/{VMID}"
        # The closing slash is put there: what the page names is relative to it.
        page.goto(f"{root}{place}?token={TOKEN}")
        assert page.url == f"{root}{place}/"
        is_served(page)
        assert cookies(page) == {
            f"zlh-ide-{VMID}": ("127.0.0.1", f"{place}/", False, True),
            "basket": ("127.0.0.1", f"{place}/", False, False),
        }
        assert page.evaluate("document.cookie") == "basket=3"
        page.goto(f"{root}{place}/moved")
        assert page.url == f"{root}{place}/there"
        is_served(page)
        told = json.loads(page.locator("#fetched").inner_text())
        assert told["cookies"] == "basket=3"
        # Nothing of it comes along to another IDE.
        assert page.context.cookies(f"{root}/ide/{FOREIGN}/") == []


@pytest.mark.parametrize(
    ("zone", "host", "place", "pass_name"),
    [
        (ZONE, f"ide-{VMID}.{ZONE}", "", "__Host-zlh-pass"),
        ("", "localhost", f"/ide/{VMID}", f"__Secure-zlh-ide-{VMID}"),
    ],
    ids=["by host", "by path"],
)
def test_behind_tls_no_other_host_can_plant_a_pass_and_pages_work(
    zone: str, host: str, place: str, pass_name: str, page: Page, tmp_path: Path
) -> None:
    certificate, key, _ = make_cert(str(tmp_path), name="proxy", hosts=(f"*.{ZONE}",))
    with beside(partial(open_shop_by_https, zone, certificate, key)) as port:
        root = f"https://{host}:{port}{place}"
        page.goto(f"{root}/?token={TOKEN}")
        assert page.url == f"{root}/"
        is_served(page)
        assert cookies(page) == {
            pass_name: (host, f"{place}/", True, True),
            "basket": (host, f"{place}/", False, False),
        }
        told = json.loads(page.locator("#fetched").inner_text())
        assert told["cookies"] == "basket=3"
        # The program knows itself by http; the redirect leads to where the browser is.
        page.goto(f"{root}/moved")
        assert page.url == f"{root}/there"
