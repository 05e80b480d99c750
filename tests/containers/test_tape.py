"""What is retained of a console, against a model of what was really written."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zlh.containers.tape import EPOCH_BITS, Gap, Piece, Tape, following
from zlh.model.console import Batch, Stretch

AT = 1_700_000_000.0
EPOCH = int(AT * 1000) - 1000


def seqs(pieces: list[Piece]) -> list[int]:
    return [line.seq for piece in pieces if isinstance(piece, Batch) for line in piece.lines]


def texts(pieces: list[Piece]) -> list[str]:
    return [line.text for piece in pieces if isinstance(piece, Batch) for line in piece.lines]


# An agent that writes, loses its memory, or is heard only now and then: each tells the lines of [start, end).
heard = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 12)), max_size=30)


def as_stretch(epoch: int, first: int, count: int) -> Stretch:
    return Stretch(
        tuple(f"{epoch}/{number}" for number in range(first + 1, first + 1 + count)), EPOCH + epoch, first + 1
    )


@settings(deadline=None)
@given(told=heard, kept=st.integers(1, 20), left_after=st.integers(0, 30))
def test_nothing_twice_and_nothing_missing_without_a_word(
    told: list[tuple[int, int, int]], kept: int, left_after: int
) -> None:
    """A viewer that stays, and one that leaves and resumes, see the same; whatever order the agent tells it in."""
    tape = Tape(kept)
    stayed: list[Piece] = []
    left: list[Piece] = []
    for turn, (epoch, first, count) in enumerate(told):
        pieces = tape.take(as_stretch(epoch, first, count), AT)
        tape.trim()
        stayed += pieces
        if turn < left_after:
            left += pieces
    numbers = seqs(stayed)
    assert numbers == sorted(set(numbers)), "numbers only rise"
    assert len(tape) <= kept
    check_continuity(stayed)
    if left and seqs(left):
        last = seqs(left)[-1]
        back = list(tape.replay(last))
        later = [number for number in numbers if number > last]
        seen = seqs(back)
        assert seen == later[len(later) - len(seen) :], "only what is new, and the newest of it"
        if len(seen) < len(later):
            assert isinstance(back[0], Gap)
        check_continuity([*left, *back])


def check_continuity(pieces: list[Piece]) -> None:
    """Between two lines whose texts do not follow each other there is a gap, which counts right where it counts."""
    before: str | None = None
    gaps: list[int | None] = []
    for piece in pieces:
        if isinstance(piece, Gap):
            gaps.append(piece.dropped)
            continue
        for line in piece.lines:
            if before is not None:
                old_epoch, old = map(int, before.split("/"))
                epoch, number = map(int, line.text.split("/"))
                if epoch != old_epoch:
                    assert None in gaps, "another epoch, and nobody was told"
                elif number != old + 1:
                    assert None in gaps or sum(gap or 0 for gap in gaps) == number - old - 1
            gaps = []
            before = line.text


def test_numbers_are_the_same_in_another_process() -> None:
    first, second = Tape(100), Tape(100)
    seen = first.take(as_stretch(0, 0, 10), AT)
    again = second.take(as_stretch(0, 5, 10), AT + 1000)
    assert seqs(seen)[5:] == seqs(again)[:5]
    assert texts(list(second.replay(seqs(seen)[-1]))) == [f"0/{number}" for number in range(11, 16)]
    # What was before the first line of it is counted.
    assert next(second.replay(seqs(seen)[1])) == Gap(3)


def test_numbers_fit_into_a_json_number() -> None:
    assert seqs(Tape(1).take(Stretch(("x",), 2**42 - 1, 1), AT))[0] < 2**53


def test_a_clock_that_was_set_back_makes_no_number_fall() -> None:
    tape = Tape(100)
    before = seqs(tape.take(as_stretch(1000, 0, 3), AT))
    pieces = tape.take(as_stretch(0, 0, 3), AT)
    assert pieces[0] == Gap(None)
    assert seqs(pieces)[0] > before[-1]
    assert seqs(tape.take(as_stretch(0, 3, 1), AT)) == [seqs(pieces)[-1] + 1]


def test_an_unknown_number_is_no_resume() -> None:
    tape = Tape(100)
    assert list(tape.replay(None)) == []
    assert list(tape.replay(7)) == [Gap(None)]
    numbers = seqs(tape.take(as_stretch(0, 0, 3), AT))
    for unknown in (0, 7, (EPOCH - 1) << EPOCH_BITS, numbers[-1] + 1, 10**16 - 1):
        pieces = list(tape.replay(unknown))
        assert pieces[0] == Gap(None)
        assert seqs(pieces) == numbers
    assert list(tape.replay(numbers[-1])) == []


lines = st.lists(st.sampled_from("ab"), max_size=8).map(tuple)


@given(written=lines, heard=st.integers(0, 8), told=st.integers(0, 8))
def test_what_follows_is_never_told_twice(written: tuple[str, ...], heard: int, told: int) -> None:
    """The agent wrote these lines; we heard the first of them, and are told the last."""
    known, newest = written[:heard], written[max(0, len(written) - told) :]
    new, certain = following(known, newest)
    missed = written[heard:]
    assert tuple(new) == newest[len(newest) - len(new) :]
    if known and len(newest) > len(missed):
        assert len(new) <= len(missed)
        assert tuple(new) == missed or not certain


@pytest.mark.parametrize(
    ("known", "told", "new", "certain"),
    [
        ("abcd", "bcdef", "ef", True),
        ("abcd", "abcd", "", True),
        ("abcd", "cd", "", False),
        ("abcd", "cde", "e", False),
        ("cd", "abcde", "e", True),
        ("abcd", "xyz", "xyz", False),
        ("aaa", "aaaa", "", False),
        ("abcd", "", "", False),
        ("", "ab", "ab", False),
    ],
)
def test_the_place_where_lines_go_on(known: str, told: str, new: str, certain: bool) -> None:
    assert following(known, told) == (new, certain)


def test_old_agents_lines_are_joined() -> None:
    tape = Tape(100)
    assert texts(tape.join(("a", "b", "c"), AT)) == ["a", "b", "c"]
    tape.append(("d",), AT)
    pieces = tape.join(("b", "c", "d", "e"), AT)
    assert texts(pieces) == ["e"]
    assert seqs(list(tape.replay(None))) == list(
        range(int(AT * 1000) << EPOCH_BITS, (int(AT * 1000) << EPOCH_BITS) + 5)
    )
    assert tape.join((), AT) == [Gap(None)]
    # What is told again is not told again, also after a gap with nothing behind it.
    assert texts(tape.join(("c", "d", "e"), AT)) == []
    assert tape.interrupt() == [Gap(None)]
