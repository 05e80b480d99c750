from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlh.model.names import comparison_key, hostname

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
