"""Only containers' own addresses are ever reached."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlh.ide import Reach

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


@pytest.mark.parametrize("port", [18888, 0, -1, 65536])
def test_ports_that_are_not_for_customers(port: int) -> None:
    assert POOLED.problem("10.60.0.5", port) is not None


@given(st.one_of(st.text(max_size=40), st.ip_addresses().map(str)))
def test_nothing_outside_of_the_pool(address: str) -> None:
    assert (POOLED.problem(address, 80) is None) == (address in ("127.7.1.1", "10.60.0.5", "fd00::5"))
