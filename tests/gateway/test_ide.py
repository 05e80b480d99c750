"""The door to hosted IDEs: who comes in, what goes to the program in the container, and what comes back from it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.gateway.ide import AGENT_PORT, HOST, OTHER_TOKEN, TOKEN, VMID, ZONE, guest, open_scene, row
from zlh.gateway import upstream
from zlh.ide import Place, Reach
from zlh.model.containers import Power
from zlh.model.errors import ForbiddenError, UnavailableError
from zlh.model.operations import OperationKind
from zlh.wire.http import RequestHead

HTML = "Accept: text/html,application/xhtml+xml"


def fields_of(answer: Any, name: str) -> list[str]:
    return [value.decode() for key, value in answer.head.fields if key == name.encode()]


async def test_a_token_becomes_a_cookie_and_leaves_the_address() -> None:
    async with open_scene() as scene, guest(scene, cookie="") as peer:
        answer = await peer.ask("GET", f"/?folder=/srv&token={TOKEN}&x=1")
        assert (answer.status, answer.field("location")) == (303, "/?folder=/srv&x=1")
        assert fields_of(answer, "set-cookie") == ["zlh-pass=good; Path=/; Max-Age=600; HttpOnly; SameSite=Lax"]
        assert (answer.field("cache-control"), answer.field("referrer-policy")) == ("no-store", "no-referrer")
        assert scene.program.heads == []
        assert (await peer.ask("GET", f"/?token={TOKEN}")).status == 401
        # Who is in already may open the same address again.
    async with open_scene() as scene, guest(scene) as peer:
        scene.keeper.spent = True
        again = await peer.ask("GET", f"/x?token={TOKEN}")
        assert (again.status, again.field("location"), fields_of(again, "set-cookie")) == (303, "/x", [])
        assert (await peer.ask("GET", "/x")).json["target"] == "/x"


async def test_a_redirect_never_leaves_the_host() -> None:
    async with open_scene() as scene, guest(scene) as peer:
        answer = await peer.ask("GET", f"/\\evil.example/?token={TOKEN}")
        assert (answer.status, answer.field("location"), scene.keeper.spent) == (400, None, False)
    async with open_scene() as scene, guest(scene) as peer:
        own = f"Origin: http://{HOST}", "Content-Length: 0"
        odd = await peer.ask("POST", "/.zlh/start", *own, f"Referer: http://{HOST}/\\evil.example")
        assert odd.field("location") == "/"
        assert (await peer.ask("HEAD", f"/?token={TOKEN}")).status == 405


async def test_a_token_of_the_programs_own_is_left_to_it() -> None:
    async with open_scene() as scene, guest(scene) as peer:
        for token in ("0123456789abcdef", f"es256.jwt.{'t' * 86}"):
            assert (await peer.ask("GET", f"/lab?token={token}")).json["target"] == f"/lab?token={token}"
        mixed = await peer.ask("GET", f"/lab?token=es256.jwt.{'t' * 86}&token={TOKEN}")
        assert (mixed.status, mixed.field("location")) == (303, f"/lab?token=es256.jwt.{'t' * 86}")


async def test_behind_tls_the_cookie_cannot_be_planted() -> None:
    async with open_scene(secure=True) as scene, guest(scene, cookie="") as peer:
        answer = await peer.ask("GET", f"/?token={TOKEN}")
        assert fields_of(answer, "set-cookie") == [
            "__Host-zlh-pass=good; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure"
        ]
        peer.cookie = "__Host-zlh-pass=good"
        told = dict((await peer.ask("GET", "/")).json["fields"])
        assert told["x-forwarded-proto"] == "https"


async def test_by_path_the_prefix_is_taken_off_and_the_cookie_is_of_that_path() -> None:
    async with open_scene(zone="") as scene, guest(scene, host="api.test", cookie="") as peer:
        bare = await peer.ask("GET", f"/ide/{VMID}?a=b")
        assert (bare.status, bare.field("location")) == (303, f"/ide/{VMID}/?a=b")
        answer = await peer.ask("GET", f"/ide/{VMID}/?token={TOKEN}")
        assert (answer.status, answer.field("location")) == (303, f"/ide/{VMID}/")
        assert fields_of(answer, "set-cookie") == [
            f"zlh-ide-{VMID}=good; Path=/ide/{VMID}/; Max-Age=600; HttpOnly; SameSite=Lax"
        ]
        peer.cookie = f"zlh-ide-{VMID}=good"
        told = (await peer.ask("GET", f"/ide/{VMID}/static/x.js?v=1", "X-Forwarded-Prefix: /evil")).json
        assert told["target"] == "/static/x.js?v=1"
        assert [value for name, value in told["fields"] if name == "x-forwarded-prefix"] == [f"/ide/{VMID}"]
        assert (await peer.ask("GET", f"/ide/{VMID}//evil.example/")).status == 400
    async with open_scene(zone="") as scene, guest(scene, host=HOST) as peer:
        assert (await peer.ask("GET", "/")).status == 502, "no zone, no hosts: that is the API's"


async def test_what_the_program_is_told() -> None:
    async with open_scene() as scene, guest(scene) as peer:
        peer.cookie = "vscode=1; zlh-pass=good; __Host-zlh-pass=x; zlh-ide-6002=y; b=2"
        answer = await peer.ask(
            "GET",
            "/x",
            "Authorization: Bearer access-token",
            "X-Forwarded-For: 6.6.6.6",
            "X-Forwarded-Host: evil.example",
            "X-Forwarded-Prefix: /evil",
            "Forwarded: for=6.6.6.6",
            "Keep-Alive: 5",
            "Connection: keep-alive, x-mine",
            "X-Mine: hop by hop",
            "TE: trailers",
            f"Origin: http://{HOST}",
        )
        told = answer.json["fields"]
        assert {name for name, _ in told} == {
            *("host", "cookie", "origin", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id")
        }
        said = dict(told)
        assert (said["host"], said["x-forwarded-host"], said["origin"]) == (HOST, HOST, f"http://{HOST}")
        assert (said["cookie"], said["x-forwarded-for"]) == ("vscode=1; b=2", "127.0.0.1")
        assert scene.uses.touches == 1


async def test_what_comes_back_stays_at_the_place() -> None:
    def answer(head: RequestHead, body: bytes) -> bytes:
        own = scene.program.address.encode()
        lines = [
            b"Set-Cookie: a=1; Domain=ide.test; Path=/sub; HttpOnly",
            b"Set-Cookie: zlh-pass=stolen; Path=/",
            b"Set-Cookie: __HOST-zlh-pass=stolen",
            b"Set-Cookie: =zlh-pass=stolen",
            b"Clear-Site-Data: *",
            b'Alt-Svc: h3="evil.example:443"',
            b"X-Accel-Redirect: /internal",
            b"X-Sendfile: /etc/passwd",
            b"Service-Worker-Allowed: /",
            b"Strict-Transport-Security: max-age=1",
            b"Location: http://%b:8443/login?to=/x" % own,
        ]
        return b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n%b\r\n\r\n" % b"\r\n".join(lines)

    async with open_scene() as scene, guest(scene) as peer:
        scene.program.answer = answer
        got = await peer.ask("GET", "/")
        assert got.status == 302
        assert fields_of(got, "set-cookie") == ["a=1; Path=/sub; HttpOnly"]
        assert (got.field("location"), got.field("service-worker-allowed")) == ("/login?to=/x", "/")
        assert (got.field("clear-site-data"), got.field("alt-svc")) == (None, None)
        assert (got.field("x-accel-redirect"), got.field("x-sendfile")) == (None, None)
    async with open_scene(zone="") as scene, guest(scene, host="api.test", cookie=f"zlh-ide-{VMID}=good") as peer:
        scene.program.answer = answer
        got = await peer.ask("GET", f"/ide/{VMID}/")
        assert fields_of(got, "set-cookie") == [f"a=1; Path=/ide/{VMID}/sub; HttpOnly"]
        assert got.field("location") == f"/ide/{VMID}/login?to=/x"
        assert got.field("service-worker-allowed") == f"/ide/{VMID}/"
        assert got.field("strict-transport-security") is None


@pytest.mark.parametrize("zone", [ZONE, ""], ids=["by host", "by path"])
async def test_a_programs_redirect_to_another_host_goes_there(zone: str) -> None:
    away = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: https://example.com/sign-in\r\n\r\n"
    host, cookie, prefix = (HOST, "zlh-pass=good", "") if zone else ("x", f"zlh-ide-{VMID}=good", f"/ide/{VMID}")
    async with open_scene(zone=zone) as scene, guest(scene, host=host, cookie=cookie) as peer:
        scene.program.answer = lambda head, body: away
        assert (await peer.ask("GET", f"{prefix}/")).field("location") == "https://example.com/sign-in"


async def test_a_pass_is_renewed_by_the_answer() -> None:
    async with open_scene() as scene, guest(scene) as peer:
        assert fields_of(await peer.ask("GET", "/"), "set-cookie") == []
        scene.keeper.renewed = "fresh"
        assert fields_of(await peer.ask("GET", "/"), "set-cookie")[0].startswith("zlh-pass=fresh; Path=/; ")


SAME, LINK = "Sec-Fetch-Site: same-origin", ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document")


@pytest.mark.parametrize(
    ("method", "lines", "status"),
    [
        ("GET", (), 200),
        ("GET", (SAME,), 200),
        ("POST", (f"Origin: http://{HOST}", SAME), 200),
        ("GET", ("Sec-Fetch-Site: cross-site", *LINK), 200),
        ("GET", ("Sec-Fetch-Site: same-site", *LINK), 200),
        ("GET", ("Sec-Fetch-Site: none", *LINK), 200),
        ("GET", ("Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"), 403),
        ("GET", ("Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: script"), 403),
        ("POST", ("Sec-Fetch-Site: cross-site", *LINK), 403),
        ("POST", ("Origin: https://evil.example",), 403),
        ("POST", ("Origin: null",), 403),
        ("GET", (f"Origin: http://p80-6002.{ZONE}",), 403),
        ("GET", (f"Origin: https://{HOST}",), 403),
        ("DELETE", (f"Origin: http://{HOST}:81",), 403),
    ],
)
async def test_only_its_own_pages_and_links_to_it_may_use_the_cookie(
    method: str, lines: tuple[str, ...], status: int
) -> None:
    async with open_scene() as scene, guest(scene) as peer:
        answer = await peer.ask(method, "/", *lines)
        assert answer.status == status
        assert len(scene.program.heads) == (status == 200)


async def test_who_is_not_let_in() -> None:
    async with open_scene() as scene, guest(scene, cookie="zlh-pass=bad") as peer:
        refused = await peer.ask("GET", "/", "Authorization: Bearer good")
        assert (refused.status, refused.json["code"]) == (401, "unauthenticated")
    async with open_scene() as scene:
        scene.keeper.refusal = ForbiddenError("the account is suspended", code="suspended")
        async with guest(scene) as peer:
            assert (await peer.ask("GET", "/")).json["code"] == "suspended"
        async with guest(scene, cookie="") as peer:
            assert (await peer.ask("GET", f"/?token={OTHER_TOKEN}")).json["code"] == "token_spent"
        assert scene.program.heads == []


@pytest.mark.parametrize(
    "host", [f"ide-06001.{ZONE}", f"ide-6001.evil{ZONE}", f"ide-6001.{ZONE}.evil", f"p0-6001.{ZONE}"]
)
async def test_hosts_that_are_no_places_are_the_apis(host: str) -> None:
    async with open_scene() as scene, guest(scene, host=host) as peer:
        assert (await peer.ask("GET", "/")).status == 502
        assert scene.program.heads == []


async def test_on_the_host_of_an_ide_every_path_is_the_ides() -> None:
    async with open_scene() as scene, guest(scene, host=HOST.upper()) as peer:
        path = "/api/servers/5001/console/stream"
        assert (await peer.ask("GET", path)).json["target"] == path


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "10.0.0.1", "::1", "localhost", "0x7f.1", "", None])
async def test_a_row_that_lies_leads_nowhere(address: str | None) -> None:
    async with open_scene() as scene, guest(scene) as peer:
        with scene.lying(address):
            assert (await peer.ask("GET", "/")).status == 503
        assert scene.program.connections == 0


async def test_without_a_pool_an_address_counts_once_the_containers_agent_was_met_there() -> None:
    """Proxmox tells what the container says, and root in it may claim the address of a neighbour."""
    async with open_scene() as scene:
        scene.house._reach = Reach((), (), AGENT_PORT)
        scene.workshops.found = replace(scene.workshops.found, row=row("10.60.0.9"), met=False)
        with pytest.raises(UnavailableError):
            scene.house.address(Place(VMID))
        scene.workshops.found = replace(scene.workshops.found, met=True)
        assert scene.house.address(Place(VMID)) == ("10.60.0.9", 8443)


async def test_a_forwarded_port() -> None:
    async with open_scene(port=3000) as scene:
        async with guest(scene, host=f"p3000-{VMID}.{ZONE}") as peer:
            answer = await peer.ask("GET", "/api/servers", "Authorization: Basic dTpw")
            assert dict(answer.json["fields"])["authorization"] == "Basic dTpw"
            answer = await peer.ask("GET", "/", "Authorization: Bearer zlh_secret")
            assert "authorization" not in dict(answer.json["fields"])
            peer.cookie = ""
            assert (await peer.ask("GET", "/")).status == 401
        async with guest(scene, host=f"p3000-{VMID}.{ZONE}", cookie="") as peer:
            scene.keeper.public = True
            answer = await peer.ask("POST", "/", "Origin: https://elsewhere.example", "Cookie: zlh-pass=x; own=1")
            assert dict(answer.json["fields"])["cookie"] == "own=1"
    for port in (8443, 18888):
        async with open_scene(port=port) as scene, guest(scene, host=f"p{port}-{VMID}.{ZONE}") as peer:
            scene.keeper.public = True
            assert (await peer.ask("GET", "/")).status == 503
            assert scene.program.connections == 0


async def test_pages_in_place_of_what_is_not_there() -> None:
    async with open_scene(listening=False) as scene:
        async with guest(scene, cookie="") as peer:
            page = await peer.ask("GET", "/", HTML)
            text = page.body.decode()
            assert (page.status, page.field("content-type")) == (401, "text/html; charset=utf-8")
            assert 'href="https://portal.example"' in text
            policy = page.field("content-security-policy") or ""
            assert policy.startswith("default-src 'none'; style-src 'sha256-")
            assert "<script" not in text
            assert "http-equiv" not in text
        async with guest(scene) as peer:
            for state, words in [
                ("stopped", "The IDE is stopped"),
                ("starting", "The IDE is starting"),
                ("error", "The IDE has failed"),
                ("running", "The IDE does not answer"),
                ("what", "does not answer"),
                (None, "does not answer"),
            ]:
                scene.workshops.ide = state
                page = await peer.ask("GET", "/x", HTML)
                assert page.status in (502, 503)
                assert words in page.body.decode(), state
            # A program gets no page.
            assert (await peer.ask("GET", "/x")).json["code"] == "bad_gateway"
        async with guest(scene, host=f"p3000-{VMID}.{ZONE}") as peer:
            assert "Nothing answers on port 3000" in (await peer.ask("GET", "/", HTML)).body.decode()
            scene.keeper.refusal = ForbiddenError('you may <not> "do" that')
            page = await peer.ask("GET", "/", HTML)
            assert (page.status, "You may &lt;not&gt; &quot;do&quot; that." in page.body.decode()) == (403, True)


async def test_the_button_of_a_page_starts_what_is_off() -> None:
    own = (HTML, f"Origin: http://{HOST}", "Content-Length: 0")
    async with open_scene(listening=False) as scene:
        scene.workshops.ide = "stopped"
        async with guest(scene) as peer:
            assert 'method="post" action="/.zlh/start"' in (await peer.ask("GET", "/", HTML)).body.decode()
            answer = await peer.ask("POST", "/.zlh/start", *own, f"Referer: http://{HOST}/work?x=1")
            assert (answer.status, answer.field("location")) == (303, "/work?x=1")
            assert (scene.workshops.started, scene.trail.acts) == (["/dev/code-server/start"], ["code_server.start"])
            odd = await peer.ask("POST", "/.zlh/start", *own, f"Referer: http://{HOST}//evil.example/")
            assert odd.field("location") == "/"
        async with guest(scene) as peer:
            again = await peer.ask("GET", "/.zlh/start", HTML)
            assert (again.status, again.field("location")) == (303, "/")
        for lines in ((), ("Origin: https://evil.example",), ("Origin: null",), ("Sec-Fetch-Site: same-site",)):
            async with guest(scene) as peer:
                assert (await peer.ask("POST", "/.zlh/start", "Content-Length: 0", *lines)).status == 403
        async with guest(scene, cookie="") as peer:
            assert (await peer.ask("POST", "/.zlh/start", *own)).status == 401
        assert len(scene.workshops.started) == 2


async def test_who_may_come_to_a_port_alone_does_not_start_the_ide() -> None:
    async with open_scene(listening=False) as scene:
        scene.workshops.ide = "stopped"
        scene.keeper.ide = False
        host = HOST.replace("ide-", "p3000-")
        async with guest(scene, host=host) as peer:
            answer = await peer.ask("POST", "/.zlh/start", f"Origin: http://{host}", "Content-Length: 0")
            assert (answer.status, answer.json["details"]) == (403, {"permission": "ide"})
        assert (scene.workshops.started, scene.trail.acts) == ([], [])


async def test_a_container_that_is_off_is_started_by_those_who_may() -> None:
    own = (HTML, f"Origin: http://{HOST}", "Content-Length: 0")
    async with open_scene() as scene:
        scene.workshops.power(Power.OFF)
        async with guest(scene) as peer:
            page = await peer.ask("GET", "/", HTML)
            assert (page.status, "Start the container" in page.body.decode()) == (503, True)
            scene.keeper.power = False
            assert "Start the container" not in (await peer.ask("GET", "/", HTML)).body.decode()
            assert (await peer.ask("POST", "/.zlh/start", *own)).status == 403
            assert scene.workshops.started == []
        scene.keeper.power = True
        async with guest(scene) as peer:
            assert (await peer.ask("POST", "/.zlh/start", *own)).status == 303
            assert (scene.workshops.started, scene.trail.acts) == (["host"], ["host.start"])
            scene.workshops.power(Power.OFF, OperationKind.START_HOST)
            page = await peer.ask("GET", "/", HTML)
            assert 'http-equiv="refresh" content="2"' in page.body.decode()
            assert '<div class="waiting">' in page.body.decode()
            scene.workshops.power(Power.ON)
            assert json.loads((await peer.ask("GET", "/", HTML)).body)["target"] == "/"


async def test_who_loses_the_right_before_the_program_is_asked_gets_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_scene() as scene, guest(scene) as peer:

        async def late(destination: Any) -> Any:
            scene.workshops.power(Power.OFF)
            scene.house.presence.tick(0.0)
            return await real(destination)

        real = upstream._open_socket
        monkeypatch.setattr(upstream, "_open_socket", late)
        await peer.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nCookie: zlh-pass=good\r\n\r\n".encode())
        assert await peer.closed()
        assert (peer.buffer, scene.program.heads) == (b"", [])
