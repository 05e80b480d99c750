from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlh.model.names import CHOSEN_LENGTHS, RESERVED, chosen_name, comparison_key, hostname

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
vmids = st.integers(100, 999_999_999)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("My Sërver!", "my-server-5001"),
        ("", "ct-5001"),
        ("日本", "ct-5001"),
        ("--a__b--", "a-b-5001"),
        ("xn--bcher", "xn-bcher-5001"),
        ("a" * 80, "a" * 58 + "-5001"),
    ],
)
def test_names_as_people_write_them(name: str, expected: str) -> None:
    assert hostname(name, 5001) == expected
    assert hostname(name, 5001, "zlh.test") == f"{expected}.zlh.test"


@given(st.text(), vmids)
def test_every_name_gives_a_label(name: str, vmid: int) -> None:
    label = hostname(name, vmid)
    assert LABEL.fullmatch(label)
    assert "--" not in label


@given(st.text(), st.text(), vmids, vmids)
def test_two_vmids_never_share_a_name(one: str, other: str, first: int, second: int) -> None:
    assert (hostname(one, first) == hostname(other, second)) <= (first == second)


@given(st.text())
def test_a_comparison_key_is_its_own_key(name: str) -> None:
    key = comparison_key(name)
    assert comparison_key(key) == key


@given(st.text(alphabet=string.printable))
def test_case_makes_no_difference(name: str) -> None:
    assert comparison_key(name.upper()) == comparison_key(name.lower()) == comparison_key(f" {name}\n")


@pytest.mark.parametrize("wish", ["castle", "Castle", "a1b", "my-old-castle", "4you", "ide", "p3000", "x" * 40])
def test_names_that_may_be_chosen(wish: str) -> None:
    assert chosen_name(wish) == wish.lower()


@pytest.mark.parametrize(
    "wish",
    [
        *("", "ab", "x" * 41),
        *("-castle", "castle-", "my--castle", "my_castle", "my.castle", "my castle", "castle\n", "*", "_zlh"),
        *("sch\u00f6n", "\u212aelvin", "ca\u017ftle", "\u0441astle", "castle\u0661"),
        *("castle-5001", "My-5", "ide-x", "IDE-castle", "p3000-x", "xn--bcher"),
    ],
)
def test_names_that_may_not(wish: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        chosen_name(wish)


@given(st.text(alphabet=string.ascii_letters + string.digits + "-._", min_size=1, max_size=50), vmids)
def test_a_chosen_name_is_a_label_and_no_default_name(wish: str, vmid: int) -> None:
    try:
        label = chosen_name(wish)
    except ValueError:
        return
    assert LABEL.fullmatch(label)
    assert label == label.lower()
    assert CHOSEN_LENGTHS[0] <= len(label) <= CHOSEN_LENGTHS[1]
    assert label != hostname(label, vmid)
    assert label != hostname(label.rpartition("-")[0], vmid)
    assert not re.match(r"(ide|p[0-9]+)-", label)


def test_reserved_names_could_be_chosen_otherwise() -> None:
    """One that the rules refuse anyhow needs no place in the list."""
    shortest, _ = CHOSEN_LENGTHS
    for name in RESERVED:
        assert len(name) < shortest or chosen_name(name) == name
