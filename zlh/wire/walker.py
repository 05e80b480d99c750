"""Walks over websocket frames that are passed on unopened, and says when the peer goes beyond its limits."""

from __future__ import annotations

from dataclasses import dataclass

from zlh.wire.frames import CloseCode, Opcode, Violation, check_frame_start


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """What one peer may send. Sizes in bytes; rates per second, with a burst of that much allowed at once."""

    max_message: int = 64 * 1024
    max_fragments: int = 64
    bytes_per_second: float = 16 * 1024
    bytes_burst: float = 128 * 1024
    frames_per_second: float = 50
    frames_burst: float = 200


UNLIMITED = FrameLimits(1 << 62, 1 << 62, float("inf"), float("inf"), float("inf"), float("inf"))


class Allowance:
    """A token bucket: `rate` a second, at most `burst` saved up. Time is the caller's, in seconds."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at: float | None = None

    def spend(self, amount: float, now: float) -> bool:
        """Whether the amount is there; it is spent only then."""
        if self._at is not None and now > self._at:
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if amount > self._left:
            return False
        self._left -= amount
        return True


class FrameWalker:
    """Follows the frames of one direction. `masked`: they come from a client; `compressed`: permessage-deflate was
    negotiated, so messages may be compressed, and are followed all the same.

    After `walk`, `boundary` tells how many bytes of those just walked belong to whole frames; a frame of our own may
    be put in there. `closing`: a close frame was seen.
    """

    __slots__ = (
        "_bytes",
        "_compressed",
        "_fragments",
        "_frames",
        "_head",
        "_limits",
        "_masked",
        "_message",
        "_skip",
        "_whole",
        "boundary",
        "closing",
        "limited",
    )

    def __init__(self, *, masked: bool, limits: FrameLimits = UNLIMITED, compressed: bool = False) -> None:
        self._masked = masked
        self._compressed = compressed
        self._limits = limits
        self.limited = limits != UNLIMITED
        # How messages of one frame begin.
        self._whole = b"\x81\x82\xc1\xc2" if compressed else b"\x81\x82"
        self._bytes = Allowance(limits.bytes_per_second, limits.bytes_burst)
        self._frames = Allowance(limits.frames_per_second, limits.frames_burst)
        self._head = bytearray()
        self._skip = 0
        self._fragments = 0
        self._message = 0
        self.boundary = 0
        self.closing = False

    @property
    def between_frames(self) -> bool:
        return not self._skip and not self._head

    def walk(self, data: bytes, now: float) -> Violation | None:
        """Follows these bytes; a Violation means that they must not be passed on. `now` in seconds, any zero; it does
        not matter where nothing is `limited`."""
        if not self.limited and self._is_message(data):
            self.boundary = len(data)
            return None
        self.boundary = 0
        if not self._bytes.spend(len(data), now):
            return Violation(CloseCode.POLICY, "too much data in too short a time")
        position = 0
        size = len(data)
        while position < size:
            if self._skip:
                step = min(self._skip, size - position)
                self._skip -= step
                position += step
            elif not self._head and (step := self._needed(data, position)) <= size - position:
                problem = self._begin_frame(data, position, now)
                if problem is not None:
                    return problem
                position += step
            else:
                step = self._needed(self._head, 0) - len(self._head)
                self._head += data[position : position + step]
                position = min(position + step, size)
                problem = self._check_head(now)
                if problem is not None:
                    return problem
            if not self._skip and not self._head:
                self.boundary = position
        return None

    def _is_message(self, data: bytes) -> bool:
        """Whether that is one whole message in one frame, as is usual; False for long ones, too."""
        if self._skip or self._head or self._fragments or len(data) < 4 or data[0] not in self._whole:
            return False
        if (data[1] > 0x7F) is not self._masked:
            return False
        size = data[1] & 0x7F
        rest = len(data) - (6 if self._masked else 2)
        return size == rest if size < 126 else size == 126 and data[2] << 8 | data[3] == rest - 2

    def _needed(self, head: bytes | bytearray, at: int) -> int:
        """How long the head that begins at `at` is, as far as can be told."""
        if len(head) - at < 2:
            return 2
        size = head[at + 1] & 0x7F
        return 2 + (4 if self._masked else 0) + (0 if size < 126 else 2 if size == 126 else 8)

    def _check_head(self, now: float) -> Violation | None:
        head = self._head
        if len(head) < 2 or len(head) < self._needed(head, 0):
            return None
        problem = self._begin_frame(head, 0, now)
        if problem is None:
            head.clear()
        return problem

    def _begin_frame(self, head: bytes | bytearray, at: int, now: float) -> Violation | None:
        """Takes note of a frame whose whole head stands at `at`."""
        if not self._frames.spend(1, now):
            return Violation(CloseCode.POLICY, "too many frames in too short a time")
        first = head[at]
        problem = check_frame_start(
            first,
            head[at + 1],
            masked=self._masked,
            open_message=bool(self._fragments),
            compressed=self._compressed,
        )
        if problem is not None:
            return Violation(CloseCode.PROTOCOL_ERROR, problem)
        size = head[at + 1] & 0x7F
        if size >= 126:
            size = int.from_bytes(head[at + 2 : at + (4 if size == 126 else 10)], "big")
        self._skip = size
        if first & 0x0F >= Opcode.CLOSE:
            self.closing |= first & 0x0F == Opcode.CLOSE
            return None
        self._message += size
        self._fragments += 1
        if self._message > self._limits.max_message:
            return Violation(CloseCode.TOO_BIG, f"a message of more than {self._limits.max_message} bytes")
        if self._fragments > self._limits.max_fragments:
            return Violation(CloseCode.POLICY, f"a message of more than {self._limits.max_fragments} fragments")
        if first & 0x80:
            self._message = 0
            self._fragments = 0
        return None
