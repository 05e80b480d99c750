from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlh.model.errors import UnavailableError
from zlh.store.places import next_address, next_vmid

VMIDS = range(5000, 5010)


@given(st.sets(st.sampled_from(VMIDS), max_size=9), st.none() | st.integers(4990, 5020))
def test_a_free_vmid_is_found_whatever_is_taken(taken: set[int], last: int | None) -> None:
    vmid = next_vmid(VMIDS, last, taken)
    assert vmid in VMIDS
    assert vmid not in taken


@given(st.sampled_from(VMIDS))
def test_a_freed_vmid_rests_for_a_round(last: int) -> None:
    given_out = []
    for _ in VMIDS:
        last = next_vmid(VMIDS, last, ())
        given_out.append(last)
    assert sorted(given_out) == list(VMIDS)


def test_no_vmid_left() -> None:
    with pytest.raises(UnavailableError) as caught:
        next_vmid(VMIDS, 5003, set(VMIDS))
    assert caught.value.code == "no_vmid_left"


def test_addresses_in_their_order() -> None:
    assert next_address(["192.0.2.9", "192.0.2.3"], {"192.0.2.9"}) == "192.0.2.3"
    assert next_address(IPv4Network("192.0.2.0/30"), set()) == "192.0.2.1"
    assert next_address(IPv4Network("127.0.0.0/8"), {"127.0.0.1"}) == "127.0.0.2"


def test_no_address_left() -> None:
    with pytest.raises(UnavailableError) as caught:
        next_address(IPv4Network("192.0.2.0/30"), {"192.0.2.1", "192.0.2.2"})
    assert caught.value.code == "no_address_left"
