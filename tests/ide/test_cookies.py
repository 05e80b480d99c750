"""Our cookie, and those of programs in containers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlh.ide import Place, confine, pass_cookie, pass_name, take_pass

IDE, PATH = Place(6001), Place(6001, prefix=b"/ide/6001")


def test_the_pass() -> None:
    assert pass_cookie(IDE, "t", 600, secure=True) == (
        b"__Host-zlh-pass=t; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure"
    )
    assert pass_cookie(IDE, "t", 600, secure=False) == b"zlh-pass=t; Path=/; Max-Age=600; HttpOnly; SameSite=Lax"
    assert pass_name(PATH, secure=True) == b"__Secure-zlh-ide-6001"
    assert b"; Path=/ide/6001/; " in pass_cookie(PATH, "t", 600, secure=True)


@pytest.mark.parametrize(
    ("cookie", "values", "left"),
    [
        (b"zlh-pass=a", ["a"], None),
        (b"a=1; zlh-pass=x; b=2", ["x"], b"a=1; b=2"),
        (b"zlh-pass=a;zlh-pass=b", ["a", "b"], None),
        (b"ZLH-Pass=a; __HOST-zlh-x=1; __secure-zlh-y=2; c=3", [], b"c=3"),
        (b"a; =b; c==d", [], b"a; =b; c==d"),
        (b"xzlh-pass=a", [], b"xzlh-pass=a"),
        (b" ; ;", [], b""),
    ],
)
def test_ours_is_taken_out(cookie: bytes, values: list[str], left: bytes | None) -> None:
    found, rest = take_pass([(b"a", b"b"), (b"cookie", cookie)], b"zlh-pass")
    assert found == values
    assert [value.strip(b"; ") for name, value in rest if name == b"cookie"] == ([] if left is None else [left])
    assert rest[0] == (b"a", b"b")


@pytest.mark.parametrize(
    ("given", "by_host", "by_path"),
    [
        (b"a=1", b"a=1", b"a=1; Path=/ide/6001/"),
        (b"a=1; Path=/", b"a=1; Path=/", b"a=1; Path=/ide/6001/"),
        (b"a=1; path = /x ; Secure", b"a=1; path = /x; Secure", b"a=1; Path=/ide/6001/x; Secure"),
        (b"a=1; Path=/ide/6001/y", b"a=1; Path=/ide/6001/y", b"a=1; Path=/ide/6001/y"),
        (b"a=1; Path=/ide/60012", b"a=1; Path=/ide/60012", b"a=1; Path=/ide/6001/ide/60012"),
        (b"a=1; Path=relative", b"a=1; Path=relative", b"a=1; Path=/ide/6001/"),
        (b"a=1; Domain=example; DOMAIN = .x", b"a=1", b"a=1; Path=/ide/6001/"),
        (b"a=; HttpOnly", b"a=; HttpOnly", b"a=; HttpOnly; Path=/ide/6001/"),
        (b"zlh-pass=x", None, None),
        (b" ZLH-ide-6001 =x", None, None),
        (b"__Host-zlh-pass=x; Path=/", None, None),
        (b"=zlh-pass=x", None, None),
        (b" =x", None, None),
        (b"nameless", None, None),
        (b"", None, None),
    ],
)
def test_the_programs_own_stay_at_their_place(given: bytes, by_host: bytes | None, by_path: bytes | None) -> None:
    assert confine(given, IDE) == by_host
    assert confine(given, PATH) == by_path


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_no_cookie_leaves_its_place(text: str) -> None:
    kept = confine(text.encode(), PATH)
    if kept is None:
        return
    attributes = [part.strip().lower() for part in kept.split(b";")[1:]]
    assert not any(part.partition(b"=")[0].strip() == b"domain" for part in attributes)
    paths = [part.partition(b"=")[2] for part in attributes if part.partition(b"=")[0].strip() == b"path"]
    assert paths
    assert all(path.startswith(b"/ide/6001") for path in paths)
    assert confine(kept, PATH) == kept
