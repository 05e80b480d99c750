"""Host names and paths of IDEs and forwarded ports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlh.ide import Names, Place

BY_HOST, BY_PATH = Names("ide.example"), Names("")


@pytest.mark.parametrize(
    ("host", "place"),
    [
        (b"ide-6001.ide.example", Place(6001)),
        (b"IDE-6001.IDE.Example:8443", Place(6001)),
        (b"p3000-6001.ide.example", Place(6001, 3000)),
        (b"p65535-6001.ide.example", Place(6001, 65535)),
        (b"p65536-6001.ide.example", None),
        (b"p0-6001.ide.example", None),
        (b"ide-06001.ide.example", None),
        (b"ide-6001ide.example", None),
        (b"ide-6001.xide.example", None),
        (b"ide-6001.ide.example.evil", None),
        (b"ide-6001.ide.example.", None),
        (b"ide.example", None),
        (b"x.ide-6001.ide.example", None),
        (b"api.example", None),
        (b"", None),
    ],
)
def test_hosts(host: bytes, place: Place | None) -> None:
    assert BY_HOST.place(host, b"/ide/6002/") == place
    assert BY_PATH.place(host, b"/") is None


@pytest.mark.parametrize(
    ("path", "place", "inside"),
    [
        (b"/ide/6001", Place(6001, prefix=b"/ide/6001"), b""),
        (b"/ide/6001/", Place(6001, prefix=b"/ide/6001"), b"/"),
        (b"/ide/6001/x/ide/6002/", Place(6001, prefix=b"/ide/6001"), b"/x/ide/6002/"),
        (b"/ide/06001/", None, None),
        (b"/ide/6001x/", None, None),
        (b"/ide/", None, None),
        (b"/x/ide/6001/", None, None),
        (b"/IDE/6001/", None, None),
    ],
)
def test_paths(path: bytes, place: Place | None, inside: bytes | None) -> None:
    found = BY_PATH.place(b"api.example", path)
    assert found == place
    assert (found.inside(path) if found else None) == inside


@pytest.mark.parametrize(
    ("public_url", "ide", "port"),
    [
        ("https://api.example", "https://ide-6001.ide.example/", "https://p80-6001.ide.example/"),
        ("http://127.0.0.1:8080", "http://ide-6001.ide.example:8080/", "http://p80-6001.ide.example:8080/"),
        ("http://[::1]:8080", "http://ide-6001.ide.example:8080/", "http://p80-6001.ide.example:8080/"),
    ],
)
def test_addresses_for_browsers(public_url: str, ide: str, port: str) -> None:
    assert BY_HOST.url(public_url, 6001) == ide
    assert BY_HOST.url(public_url, 6001, 80) == port
    assert BY_PATH.url(public_url, 6001) == f"{public_url}/ide/6001/"
    assert BY_PATH.url(public_url, 6001, 80) is None


@given(st.integers(1, 999_999_999), st.one_of(st.none(), st.integers(1, 65535)))
def test_every_address_leads_to_its_place(vmid: int, port: int | None) -> None:
    url = BY_HOST.url("https://api.example:1234", vmid, port)
    assert url is not None
    assert BY_HOST.place(url.split("/")[2].encode(), b"/") == Place(vmid, port)
