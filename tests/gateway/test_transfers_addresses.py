"""The addresses of transfers are those of the API document, and no others."""

from __future__ import annotations

import pytest

from zlh.api.transfers import transfers
from zlh.gateway.transfers.addresses import METHODS, address_of
from zlh.wire.http import RequestHead, parse_request

DESCRIBED = [(method.upper(), path) for path, item in transfers().items() for method in item]


def head(method: str, target: str, *lines: str) -> RequestHead:
    return parse_request("\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", *lines]).encode())


@pytest.mark.parametrize(("method", "path"), DESCRIBED)
def test_what_is_described_is_served(method: str, path: str) -> None:
    target = path.format(vmid=5001, upload_id="ab12", backup_id="b-1.x")
    found = address_of(head(method, f"{target}?path=a"))
    assert found is not None
    assert (found.vmid, found.ctype.value) == (5001, path.split("/")[2])
    assert address_of(head(method, f"{target}/")) is None


def test_what_is_served_is_described() -> None:
    assert len(DESCRIBED) == 2 * sum(len(methods) for methods in METHODS.values())


def test_whether_a_page_may_ask_is_answered_as_everywhere() -> None:
    assert address_of(head("OPTIONS", "/api/game/5001/files/uploads")) is not None
    asks = "Access-Control-Request-Method: POST"
    assert address_of(head("OPTIONS", "/api/game/5001/files/uploads", asks)) is None
