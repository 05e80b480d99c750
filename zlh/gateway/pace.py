"""Chunked bodies cost by the chunk, not by the byte: who sends tiny ones is read in small pieces, and slowly, so that
nobody else has to wait for all of them."""

from __future__ import annotations

import trio

FIRST = 16 * 1024
LEAST = 4 * 1024
MANY = 512
REST_SECONDS = 100e-6
"""For each line around the chunks: many times of what it took."""


class Pace:
    """Of one body. `size` is how many bytes to read next, at most `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.size = min(FIRST, most)

    async def rest(self, lines: int) -> None:
        """To be called once a piece was decoded, which had so many lines around its chunks."""
        if lines <= MANY:
            self.size = self._most
            return
        self.size = LEAST
        await trio.sleep(lines * REST_SECONDS)
