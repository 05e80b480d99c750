"""Paths: one spelling for each, and nothing that leads elsewhere."""

from __future__ import annotations

import posixpath
import unicodedata
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlh.model.errors import InvalidError
from zlh.model.paths import LONGEST_NAME, LONGEST_PATH, MOST_ESCAPED, UPLOADS, clean_path

printable = st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/\\%")
names = st.text(printable, min_size=1, max_size=60).filter(lambda name: name not in (".", "..", UPLOADS))
anything = st.text(st.characters(), max_size=40)
dangerous = st.sampled_from(["..", "../x", "a/..", "/", "/etc", "\0", "\n", "\x7f", "\x1b[31m", "\\", "..\\x"])


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("", ""),
        (".", ""),
        ("./", ""),
        ("world", "world"),
        ("world/", "world"),
        ("a//b/./c", "a/b/c"),
        ("...", "..."),
        ("..a/b..", "..a/b.."),
        (".hidden", ".hidden"),
        ("100%", "100%"),
        ("50%off", "50%off"),
        ("50%de luxe", "50%de luxe"),
        ("a%20b", "a%20b"),
        ("%25", "%25"),
        (f"%{'25' * MOST_ESCAPED}", f"%{'25' * MOST_ESCAPED}"),
        (f"world/{UPLOADS}", f"world/{UPLOADS}"),
        ("e\u0301", "e\u0301"),
        ("é", "é"),
        ("👩‍🚀 ~`!@#$^&*()[]{}'\";:<>?|=+,", "👩‍🚀 ~`!@#$^&*()[]{}'\";:<>?|=+,"),
    ],
)
def test_what_a_path_becomes(text: str, clean: str) -> None:
    assert clean_path(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "..",
        "a/../b",
        "./..",
        "/",
        "/etc/passwd",
        "//x",
        "a\\b",
        "a\0",
        "a\rb",
        "a\x7f",
        "a\x85",
        "\ud800",
        "%2e%2e",
        "%2E.",
        ".%2e/x",
        "%2e",
        "a%2fb",
        "a%5Cb",
        "%00",
        "a%0d%0ab",
        "%252e%252e",
        "%25252f",
        f"%{'25' * MOST_ESCAPED}25",
        f"%{'25' * 120}2e",
        "%c0%af",
        "%c0%ae%c0%ae",
        "%e0%80%af",
        UPLOADS,
        f"{UPLOADS}/x",
        f"./{UPLOADS}//x",
        "%2ezlh-uploads/x",
        "n" * (LONGEST_NAME + 1),
        "é" * (LONGEST_NAME // 2 + 1),
        "a/" * (LONGEST_PATH // 2) + "b",
    ],
)
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(InvalidError) as refused:
        clean_path(text, field="to")
    assert refused.value.details[0]["field"] == "to"


@given(anything)
def test_a_clean_path_stays_as_it_is_and_inside(text: str) -> None:
    try:
        clean = clean_path(text)
    except InvalidError:
        return
    assert clean_path(clean) == clean
    joined = posixpath.normpath(posixpath.join("/srv/server", clean))
    assert joined == "/srv/server" or joined.startswith("/srv/server/")
    assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in clean)


@given(st.lists(names, min_size=1, max_size=8))
def test_every_printable_name_is_taken_as_it_is(parts: list[str]) -> None:
    # A first part of ours would be refused; `names` has none.
    path = "/".join(part for part in parts if len(part.encode()) <= LONGEST_NAME)
    assert clean_path(path) == path


@given(dangerous, st.integers(0, 4))
def test_escaping_it_more_often_does_not_help(text: str, times: int) -> None:
    for _ in range(times):
        text = "".join(f"%{byte:02x}" for byte in text.encode()) if "%" not in text else quote(text, safe="")
    with pytest.raises(InvalidError):
        clean_path(text)


@given(st.text("%2eEfF5cC0/. a", max_size=30))
def test_no_number_of_decodings_leads_out(text: str) -> None:
    try:
        clean = clean_path(text)
    except InvalidError:
        return
    for _ in range(10):
        clean = unquote(clean)
        normal = posixpath.normpath(clean)
        assert normal != ".."
        assert not normal.startswith(("../", "/"))
