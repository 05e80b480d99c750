from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from zlh.wire.frames import CloseCode, Opcode, Violation, client_frame, server_frame
from zlh.wire.walker import Allowance, FrameLimits, FrameWalker

sizes = st.one_of(st.integers(0, 200), st.integers(65530, 65540))
payloads = st.lists(sizes.map(bytes), max_size=6)


@given(payloads, st.lists(st.integers(0, 2000), max_size=20), st.booleans())
def test_boundaries_are_found_in_any_chunks(parts: list[bytes], cuts: list[int], masked: bool) -> None:
    frame = client_frame if masked else server_frame
    frames = [frame(Opcode.BINARY, part) for part in parts]
    ends = {0, *itertools.accumulate(len(item) for item in frames)}
    data = b"".join(frames)
    walker = FrameWalker(masked=masked)
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for start, end in itertools.pairwise(edges):
        assert walker.walk(data[start:end], 0.0) is None
        inside = [edge - start for edge in ends if start < edge <= end]
        assert walker.boundary == max(inside, default=0)
        assert walker.between_frames == (end in ends)


starts = st.sampled_from([0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0xC1, 0xC2, 0x91])
lengths = st.integers(0, 255).map(lambda byte: bytes([byte])) | st.sampled_from([b"\x7e\x00\x80", b"\xfe\x00\x80"])
frames_of_sorts = st.builds(
    lambda first, length, rest: bytes([first]) + length + bytes(rest), starts, lengths, st.integers(0, 140)
)


@given(st.lists(frames_of_sorts, max_size=5), st.booleans(), st.booleans())
def test_whole_messages_are_followed_as_everything_is(pieces: list[bytes], masked: bool, compressed: bool) -> None:
    quick, careful = (FrameWalker(masked=masked, compressed=compressed) for _ in range(2))
    careful.limited = True
    for piece in pieces:
        found = code(quick, piece)
        assert found == code(careful, piece)
        if found is not None:
            return
        for name in ("boundary", "closing", "between_frames", "_fragments", "_message"):
            assert getattr(quick, name) == getattr(careful, name), name


def code(walker: FrameWalker, data: bytes, now: float = 0.0) -> int | None:
    problem = walker.walk(data, now)
    return problem.code if isinstance(problem, Violation) else None


def test_limits() -> None:
    limits = FrameLimits(max_message=100, max_fragments=3)
    assert code(FrameWalker(masked=True, limits=limits), client_frame(Opcode.TEXT, b"x" * 101)) == CloseCode.TOO_BIG
    halves = client_frame(Opcode.TEXT, b"x" * 60, fin=False) + client_frame(Opcode.CONTINUATION, b"x" * 60)
    assert code(FrameWalker(masked=True, limits=limits), halves) == CloseCode.TOO_BIG
    crumbs = client_frame(Opcode.TEXT, b"", fin=False) + client_frame(Opcode.CONTINUATION, b"", fin=False) * 3
    assert code(FrameWalker(masked=True, limits=limits), crumbs) == CloseCode.POLICY
    assert code(FrameWalker(masked=True), server_frame(Opcode.TEXT, b"x" * 9)) == CloseCode.PROTOCOL_ERROR
    assert code(FrameWalker(masked=True), b"\xc1\x80\0\0\0\0") == CloseCode.PROTOCOL_ERROR


def test_rates() -> None:
    limits = FrameLimits(frames_per_second=10, frames_burst=20, bytes_per_second=1000, bytes_burst=2000)
    walker = FrameWalker(masked=True, limits=limits)
    tick = client_frame(Opcode.TEXT, b"x")
    assert code(walker, tick * 20) is None
    assert code(walker, tick * 10, 1.0) is None
    assert code(walker, tick, 1.0) == CloseCode.POLICY
    assert code(FrameWalker(masked=True, limits=limits), client_frame(Opcode.TEXT, b"x" * 2000)) == CloseCode.POLICY


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 50)), max_size=30))
def test_no_more_is_allowed_than_burst_and_rate(spends: list[tuple[float, float]]) -> None:
    allowance = Allowance(rate=10, burst=40)
    now = spent = 0.0
    for pause, amount in spends:
        now += pause
        if allowance.spend(amount, now):
            spent += amount
        assert spent <= 40 + 10 * now + 1e-6
