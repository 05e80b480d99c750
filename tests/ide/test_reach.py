"""Only containers' own addresses are ever reached."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlh.ide import Machine, Reach

POOLED = Reach(
    ("127.7.1.1", "10.60.0.5", "127.0.0.1", "fd00::5"), ("127.0.0.1", "::1", "10.0.0.2", "api.example"), 18888
)
ANYWHERE = Reach((), ("127.0.0.1", "::1", "10.0.0.2"), 18888)


@pytest.mark.parametrize("address", ["127.7.1.1", "10.60.0.5", "fd00::5"])
def test_what_is_in_the_pool(address: str) -> None:
    assert POOLED.problem(address, 8443) is None


ODD = (
    None,
    "",
    "localhost",
    "127.1",
    "0177.0.0.1",
    "2130706433",
    "0x7f000001",
    " 10.60.0.5",
    "10.60.0.5:80",
    "10.60.0.5/24",
    "FD00::5",
)


@pytest.mark.parametrize(
    "address", [*ODD, "127.0.0.1", "10.60.0.6", "127.7.1.2", "::ffff:10.60.0.5", "169.254.169.254"]
)
def test_what_is_not(address: str | None) -> None:
    assert POOLED.problem(address, 8443) is not None


@pytest.mark.parametrize("address", ["10.60.0.9", "192.168.4.4", "203.0.113.9", "fd00::9"])
def test_without_a_pool_it_is_a_machine_in_a_network(address: str) -> None:
    assert ANYWHERE.problem(address, 8443) is None


@pytest.mark.parametrize(
    "address",
    [
        *ODD,
        *("127.0.0.1", "127.7.1.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "240.0.0.1"),
        *("::", "::1", "::ffff:127.0.0.1", "::ffff:10.60.0.9", "fe80::1", "fe80::1%eth0", "ff02::1", "10.0.0.2"),
    ],
)
def test_without_a_pool_nothing_special(address: str | None) -> None:
    assert ANYWHERE.problem(address, 8443) is not None


NETWORKED = Reach((), ("127.0.0.1", "10.60.0.2"), 18888, networks=("10.60.0.0/22", "fd00:60::1/64"))


@pytest.mark.parametrize("address", ["10.60.0.9", "10.60.3.254", "fd00:60::9"])
def test_in_a_network_of_containers(address: str) -> None:
    assert NETWORKED.problem(address, 8443) is None


@pytest.mark.parametrize("address", [*ODD, "10.60.0.2", "10.60.4.1", "192.168.4.4", "fd00:61::9", "::ffff:10.60.0.9"])
def test_in_no_network_of_containers(address: str | None) -> None:
    assert NETWORKED.problem(address, 8443) is not None


@pytest.mark.parametrize("networks", [(), ("0.0.0.0/0", "::/0")], ids=["any", "all"])
def test_this_machine_is_never_reached(networks: tuple[str, ...]) -> None:
    reach = Reach((), (), 18888, networks=networks, machine=Machine())
    for text in ("192.0.2.77", "2001:db8::77"):
        assert reach.problem(text, 8443) is None
    own = {"127.0.0.1"}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(OSError):
        # Nothing is sent by that: it tells from which of our addresses it would be, where there is a network at all.
        sock.connect(("192.0.2.77", 9))
        own.add(sock.getsockname()[0])
    for address in own:
        assert reach.problem(address, 8443) is not None


def test_without_a_pool_the_agent_is_to_be_met_there() -> None:
    for reach in (ANYWHERE, NETWORKED):
        assert reach.problem("10.60.0.9", 8443, met=True) is None
        assert "agent does not answer" in (reach.problem("10.60.0.9", 8443, met=False) or "")
    # Nobody but us says what has an address of the pool.
    assert POOLED.problem("10.60.0.5", 8443, met=False) is None


ROUTES = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
     |-- 10.60.0.2
        /31 link UNICAST
        /32 host LOCAL
     |-- 10.60.0.4
        /24 link UNICAST
     |-- 10.60.0.255
        /32 link BROADCAST
"""
INTERFACES = "fd006000000000000000000000000002 04 40 00 82     eth0\n"


def test_addresses_of_the_machine_are_read_anew(tmp_path: Path) -> None:
    now = [0.0]
    (tmp_path / "fib_trie").write_text(ROUTES)
    machine = Machine(tmp_path, lambda: now[0])
    mine = [ipaddress.ip_address(text) for text in ("127.0.0.1", "10.60.0.2")]
    others = [ipaddress.ip_address(text) for text in ("127.0.0.0", "127.0.0.2", "10.60.0.4", "10.60.0.255")]
    six = ipaddress.ip_address("fd00:6000::2")
    assert [address in machine for address in (*mine, *others, six)] == [True] * 2 + [False] * 5
    (tmp_path / "if_inet6").write_text(INTERFACES)
    assert six not in machine
    now[0] = 31.0
    assert six in machine
    # What can be read no more stays as it was known.
    (tmp_path / "fib_trie").unlink()
    now[0] = 62.0
    assert mine[0] in machine


@pytest.mark.parametrize("port", [18888, 0, -1, 65536])
def test_ports_that_are_not_for_customers(port: int) -> None:
    assert POOLED.problem("10.60.0.5", port) is not None


@given(st.one_of(st.text(max_size=40), st.ip_addresses().map(str)))
def test_nothing_outside_of_the_pool(address: str) -> None:
    assert (POOLED.problem(address, 80) is None) == (address in ("127.7.1.1", "10.60.0.5", "fd00::5"))
