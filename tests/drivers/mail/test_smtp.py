"""Against real servers on loopback."""

from __future__ import annotations

import ssl
import threading
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from fakepve.certs import make_cert

from tests.drivers.mail import servers
from tests.drivers.mail.servers import PASSWORD, USERNAME, Post, free_port, open_rough, open_server, with_tls
from tests.stopwatch import Stopwatch
from zlh.drivers.errors import Refused, Unreachable
from zlh.drivers.mail import Message, Security, Smtp, parse_sender

SENDER = parse_sender("ZLH <no-reply@zlh.example>")
MESSAGE = Message(
    7, "new_sign_in", "ada@example.com", "A subject", "A text\n.\nQUIT\n", datetime(2026, 6, 1, tzinfo=UTC)
)


def smtp(port: int, **options: Any) -> Smtp:
    return Smtp("127.0.0.1", port, SENDER, **{"security": Security.NONE, "seconds": 10.0, **options})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("certificate")
    made = make_cert(str(folder), hosts=("127.0.0.1",))
    return str(made[0]), str(made[1])


def trusting(certificate: tuple[str, str]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate[0])


async def test_a_message_arrives_as_it_was_sent() -> None:
    post = Post()
    with open_server(post) as port:
        assert await smtp(port).send(MESSAGE) == "taken by 127.0.0.1"
    (envelope,) = post.taken
    assert (envelope.mail_from, envelope.rcpt_tos) == ("no-reply@zlh.example", ["ada@example.com"])
    message = post.message()
    assert (message["To"], message["Subject"]) == ("ada@example.com", "A subject")
    # A line with nothing but a dot would end the message, and what follows would be commands.
    assert message.get_content().replace("\r\n", "\n") == MESSAGE.text


async def test_starttls_and_a_sign_in(certificate: tuple[str, str]) -> None:
    post = Post()
    with open_server(post, **with_tls(*certificate)) as port:
        chosen = {"security": Security.STARTTLS, "tls": trusting(certificate), "username": USERNAME}
        await smtp(port, **chosen, password=PASSWORD).send(MESSAGE)
        with pytest.raises(Unreachable, match="user name or password: 535"):
            await smtp(port, **chosen, password="wrong").send(MESSAGE)
    assert len(post.taken) == 1


async def test_tls_from_the_first_byte(certificate: tuple[str, str]) -> None:
    post = Post()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    with open_server(post, ssl_context=context) as port:
        await smtp(port, security=Security.TLS, tls=trusting(certificate)).send(MESSAGE)
    assert len(post.taken) == 1


async def test_a_certificate_that_is_not_trusted_gets_nothing(certificate: tuple[str, str]) -> None:
    post = Post()
    with open_server(post, **with_tls(*certificate)) as port, pytest.raises(Unreachable, match="is not trusted"):
        await smtp(port, security=Security.STARTTLS, username=USERNAME, password=PASSWORD).send(MESSAGE)
    with open_server(post, **with_tls(*certificate)) as port:
        # The same server by a name that its certificate does not have.
        other = Smtp("127.1", port, SENDER, security=Security.STARTTLS, tls=trusting(certificate))
        with pytest.raises(Unreachable, match="certificate is not trusted"):
            await other.send(MESSAGE)
    assert post.taken == []


async def test_where_there_is_no_starttls_nothing_is_sent() -> None:
    post = Post()
    with open_server(post) as port, pytest.raises(Unreachable, match="no STARTTLS"):
        await smtp(port, security=Security.STARTTLS).send(MESSAGE)
    assert post.taken == []


@pytest.mark.parametrize("where", ["recipient", "data"])
async def test_a_refusal_is_final_or_not(where: str) -> None:
    with open_server(Post(**{where: "550 5.1.1 no such user"})) as port, pytest.raises(Refused) as refused:
        await smtp(port).send(MESSAGE)
    assert refused.value.status == 550
    assert refused.value.details == {"reply": "5.1.1 no such user"}
    assert "no such" not in str(refused.value)
    greylisting = Post(**{where: "451 4.7.1 greylisted, come again"})
    with open_server(greylisting) as port, pytest.raises(Unreachable, match="451"):
        await smtp(port).send(MESSAGE)


async def test_addresses_in_other_letters() -> None:
    post = Post()
    jorg = replace(MESSAGE, recipient="jörg@exämple.com")
    with open_server(post, enable_SMTPUTF8=True) as port:
        await smtp(port).send(jorg)
    assert post.taken[0].rcpt_tos == ["jörg@exämple.com"]
    assert post.message()["To"] == "jörg@exämple.com"
    with open_server(post, enable_SMTPUTF8=False) as port, pytest.raises(Refused, match="ASCII"):
        await smtp(port).send(jorg)


@pytest.mark.parametrize(
    "recipient", ["ada@example.com\r\nRCPT TO:<eve@example.com>", "ada@example.com> NOTIFY=NEVER", "a@b,c@d"]
)
async def test_no_recipient_is_a_command(recipient: str) -> None:
    post = Post()
    with open_server(post) as port, pytest.raises(Refused):
        await smtp(port).send(replace(MESSAGE, recipient=recipient))
    assert post.taken == []


async def test_nobody_there() -> None:
    with pytest.raises(Unreachable, match="Connection refused"):
        await smtp(free_port()).send(MESSAGE)


async def test_a_server_that_serves_nobody() -> None:
    with open_rough(servers.refusing_everybody) as port, pytest.raises(Unreachable, match="554"):
        await smtp(port, seconds=5.0).send(MESSAGE)


async def test_a_server_that_hangs_up_in_the_middle() -> None:
    with open_rough(servers.hanging_up_in_data) as port, pytest.raises(Unreachable, match="hung up") as unreachable:
        await smtp(port).send(MESSAGE)
    assert unreachable.value.may_have_happened


@pytest.mark.parametrize("behave", [servers.silent, servers.dripping])
async def test_a_server_that_hangs_costs_the_time_of_one_delivery_and_no_thread(behave: Any) -> None:
    with open_rough(behave) as port:
        driver = smtp(port, seconds=0.4, threads=1)
        watch = Stopwatch()
        for _ in range(2):
            with pytest.raises(Unreachable):
                await driver.send(MESSAGE)
        # Had the first one kept its thread, the second could not even have begun.
        assert watch.seconds < 3.0
        with trio.fail_after(5.0):
            while driver._limiter.borrowed_tokens:  # noqa: ASYNC110 - a limiter tells nobody
                await trio.sleep(0.01)


async def test_a_cancelled_delivery_ends_at_once() -> None:
    with open_rough(servers.silent) as port:
        driver = smtp(port, seconds=60.0)
        before = threading.active_count()
        with trio.move_on_after(0.2) as scope:
            await driver.send(MESSAGE)
        assert scope.cancelled_caught
        with trio.fail_after(5.0):
            while driver._limiter.borrowed_tokens:  # noqa: ASYNC110 - a limiter tells nobody
                await trio.sleep(0.01)
        assert threading.active_count() <= before + 2
