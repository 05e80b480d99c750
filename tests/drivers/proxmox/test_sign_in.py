"""Tickets, their renewal and their secrecy."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock

from tests.proxmox import succeeds
from zlh.drivers.errors import DriverError, Invalid, Refused, Unreachable
from zlh.drivers.proxmox import ProxmoxDriver, TicketAuth, Tls, TokenAuth
from zlh.drivers.proxmox.auth import RENEW_AFTER_SECONDS, TicketSigner
from zlh.simulators.proxmox.client import Cluster

ANSWER = {"ticket": "PVE:root@pam:6B::abc", "CSRFPreventionToken": "6B:def", "username": "root@pam"}


def by_ticket(cluster: Cluster, password: str | None = None) -> ProxmoxDriver:
    auth = TicketAuth(cluster.username, password or cluster.password)
    return ProxmoxDriver(cluster.url, auth, Tls(ca_file=cluster.certificate))


async def sign_ins(cluster: Cluster) -> int:
    return sum(path.endswith("/access/ticket") for _, path, _ in await cluster.requests())


async def test_a_ticket_reads_and_changes(proxmox: Cluster) -> None:
    driver = by_ticket(proxmox)
    before = await sign_ins(proxmox)
    await succeeds(driver, driver.clone("pve1", 9000, 5001, hostname="a", description=""))
    await driver.configure("pve1", 5001, memory_mib=1024, cores=1)
    await succeeds(driver, driver.destroy("pve1", 5001))
    assert await sign_ins(proxmox) == before + 1
    await driver.aclose()


async def test_a_ticket_that_ended_is_renewed_once(proxmox: Cluster) -> None:
    driver = by_ticket(proxmox)
    await driver.resources()
    await proxmox.cause("signed-out")
    before = await sign_ins(proxmox)
    # A mutation that met a 401 was not carried out, and is tried again with the new ticket.
    await succeeds(driver, driver.clone("pve1", 9000, 5001, hostname="a", description=""))
    assert await sign_ins(proxmox) == before + 1
    await proxmox.cause("ticket-lifetime", seconds=-1)
    await proxmox.cause("signed-out")
    with pytest.raises(Refused) as refused:
        await driver.resources()
    assert refused.value.status == 401
    assert await sign_ins(proxmox) == before + 2
    await driver.aclose()


async def test_a_wrong_password_is_refused(proxmox: Cluster) -> None:
    driver = by_ticket(proxmox, "wrong")
    with pytest.raises(Refused, match="authentication failure") as refused:
        await driver.start("pve1", 9000)
    assert refused.value.status == 401
    await driver.aclose()


async def test_a_failed_sign_in_leaves_the_mutation_undone(proxmox: Cluster) -> None:
    driver = by_ticket(proxmox)
    await proxmox.cause("fail-before", path="/access/ticket", times=1, message="strange")
    with pytest.raises(Unreachable) as failed:
        await driver.start("pve1", 9000)
    assert not failed.value.may_have_happened
    await proxmox.cause("lost-answer", path="/access/ticket", times=1)
    with pytest.raises(Unreachable, match="sign-in") as failed:
        await driver.start("pve1", 9000)
    assert not failed.value.may_have_happened
    await driver.aclose()


async def test_nothing_secret_is_shown_or_logged(proxmox: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = [proxmox.token_secret, "pass-w0rd"]
    for auth in (TokenAuth(proxmox.token_id, secrets[0]), TicketAuth("root@pam", secrets[1])):
        driver = ProxmoxDriver(proxmox.url, auth, Tls(ca_file=proxmox.certificate))
        try:
            await driver.configure("pve1", 9999, memory_mib=512, cores=1)
        except DriverError as error:
            shown = [repr(auth), repr(driver), repr(error), str(error), caplog.text]
        await driver.aclose()
        assert not any(secret in text for secret in secrets for text in shown)


class Door:
    """Counts sign-ins, each of which takes a second."""

    def __init__(self, answer: object = ANSWER) -> None:
        self.opened = 0
        self.answer = answer

    async def __call__(self, username: str, password: str) -> object:
        await trio.sleep(1)
        self.opened += 1
        return self.answer


async def test_a_ticket_is_renewed_before_it_ends(autojump_clock: MockClock) -> None:
    door = Door()
    signer = TicketSigner(TicketAuth("root@pam", "x"), door)
    first = await signer.proof(mutation=False)
    assert first.headers == {"Cookie": "PVEAuthCookie=PVE:root@pam:6B::abc"}
    await trio.sleep(RENEW_AFTER_SECONDS - 2)
    assert await signer.proof(mutation=False) is first
    await trio.sleep(2)
    assert await signer.proof(mutation=False) is not first
    assert door.opened == 2
    assert RENEW_AFTER_SECONDS < 7200


async def test_many_at_once_sign_in_once(autojump_clock: MockClock) -> None:
    door = Door()
    signer = TicketSigner(TicketAuth("root@pam", "x"), door)
    proofs = []

    async def ask() -> None:
        proofs.append(await signer.proof(mutation=True))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert door.opened == 1
    assert {proof.headers["CSRFPreventionToken"] for proof in proofs} == {"6B:def"}
    # Twenty answers of 401 to one old ticket make one new one.
    for proof in proofs:
        assert signer.rejected(proof)
    new = await signer.proof(mutation=True)
    assert signer.rejected(proofs[0])
    assert await signer.proof(mutation=True) is new
    assert door.opened == 2


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"ticket": 1, "CSRFPreventionToken": "x"}, ANSWER | {"ticket": "a\r\nX: y"}]
)
async def test_strange_sign_in_answers(answer: object, autojump_clock: MockClock) -> None:
    with pytest.raises(Invalid):
        await TicketSigner(TicketAuth("root@pam", "x"), Door(answer)).proof(mutation=False)


async def test_a_second_factor_is_not_ours_to_give(autojump_clock: MockClock) -> None:
    with pytest.raises(Refused, match="second factor"):
        await TicketSigner(TicketAuth("root@pam", "x"), Door(ANSWER | {"NeedTFA": 1})).proof(mutation=False)
