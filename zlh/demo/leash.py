"""Ties a program to the process that starts it: when that one dies, however it dies, the program gets SIGTERM.

    python -I -S leash.py PARENT-PID PROGRAM ARGUMENT...

It becomes the program, so there is no process in between.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2): survives execve, and is sent when the thread that forked us ends


def main(parent: int, command: list[str]) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the parent died before the leash was on")
    os.execv(command[0], command)  # noqa: S606 - our own command line, no shell


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
