"""As a process of its own."""

from __future__ import annotations

import json
import signal
import sys
from functools import partial
from pathlib import Path
from subprocess import PIPE

import httpx
import pytest
import trio

from tests.simulators.stripe.hook import SECRET, open_hook
from zlh.simulators.stripe.__main__ import parse_arguments
from zlh.simulators.stripe.prices import Price


async def first_line(process: trio.Process) -> dict[str, str]:
    assert process.stdout is not None
    text = b""
    with trio.fail_after(30):
        while not text.endswith(b"\n"):
            text += await process.stdout.receive_some(1000)
    return dict(json.loads(text))


async def test_it_says_where_it_is_serves_and_ends_when_told(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "zlh.simulators.stripe",
        "--key",
        "sk_test_1",
        "--state",
        str(tmp_path / "s.json"),
    ]
    command += ["--price", "starter=price_starter:900:eur", "--webhook-secret", SECRET]
    names = []
    async with open_hook() as hook, trio.open_nursery() as nursery:
        for number in range(2):
            run = partial(trio.run_process, [*command, "--webhook-url", hook.url], stdout=PIPE, check=False)
            process = await nursery.start(run)
            url = (await first_line(process))["url"]
            async with httpx.AsyncClient(
                base_url=url, auth=("sk_test_1", ""), trust_env=False, verify=False
            ) as plain:
                assert (await plain.get("/v1/prices")).json()["data"][0]["lookup_key"] == "starter"
                names.append((await plain.post("/v1/customers", data={"email": "ada@example.com"})).json()["id"])
                assert [row["id"] for row in (await plain.get("/v1/customers")).json()["data"]] == names[::-1]
            await hook.until(number + 1)
            process.send_signal(signal.SIGTERM)
            with trio.fail_after(10):
                assert await process.wait() == 0
    assert [event.data.object.id for event in hook.got] == names


def test_prices_as_arguments() -> None:
    options = parse_arguments(["--price", "pro=price_p:2900:eur", "--price", "price_y:9900:usd:year"])
    assert options.price == [Price("price_p", 2900, "eur", "month", "pro"), Price("price_y", 9900, "usd", "year")]


@pytest.mark.parametrize("text", ["pro", "pro=price_p", "pro=price_p:x:eur", "price_p:1"])
def test_what_is_no_price(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--price", text])
    assert "--price" in capsys.readouterr().err
