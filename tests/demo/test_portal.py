from __future__ import annotations

import pytest

from zlh.demo.place import free_port
from zlh.demo.portal import Portal, RefusedError
from zlh.demo.stay import status_line


async def test_an_api_that_is_away_is_told_in_words() -> None:
    portal = Portal(f"http://127.0.0.1:{free_port()}", "customer", "password")
    with pytest.raises(RefusedError, match="POST /api/auth/login: no answer"):
        await portal.sign_in()
    assert await status_line(portal) == "the API does not answer"
