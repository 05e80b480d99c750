"""Long bodies go from socket to socket inside the kernel (splice(2)), and are never copied into this process."""

from __future__ import annotations

import fcntl
import os

from zlh.gateway.connection import Connection, GoneError

PIPE_BYTES = 512 * 1024
WORTH_IT = 256 * 1024
"""From this length on a body is worth the making of a pipe."""

_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class SourceError(Exception):
    """The connection that the bytes come from broke, or ended too soon."""


class Pipe:
    """Bytes between two sockets; `waiting` is how many were taken from one and not given to the other yet. Raises
    OSError where there can be none: too many files, or too much memory in pipes."""

    def __init__(self) -> None:
        self.waiting = 0
        self._exit, self._entrance = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.fcntl(self._entrance, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            self.close()
            raise

    def fill(self, source: Connection, most: int) -> int:
        """Takes what has come, up to `most` bytes; how many that are, 0 where nothing has come or nothing fits.
        Raises SourceError."""
        try:
            taken = os.splice(source.sock.fileno(), self._entrance, min(most, PIPE_BYTES), flags=_FLAGS)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise SourceError(error.strerror) from None
        if not taken:
            raise SourceError("closed in the middle of a body")
        self.waiting += taken
        if source.counters is not None:
            source.counters.bytes_in += taken
        return taken

    def drain(self, target: Connection) -> bool:
        """Gives what waits; whether the target took any of it. Raises GoneError."""
        try:
            given = os.splice(self._exit, target.sock.fileno(), self.waiting, flags=_FLAGS)
        except BlockingIOError:
            return False
        except OSError as error:
            raise GoneError(error.strerror) from None
        self.waiting -= given
        if target.counters is not None:
            target.counters.bytes_out += given
        return True

    def close(self) -> None:
        os.close(self._entrance)
        os.close(self._exit)
