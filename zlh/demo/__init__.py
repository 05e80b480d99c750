"""`zlh demo`: the whole product on one machine, every part a real process, driven over HTTP as its users would."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0 done or ended by Ctrl-C, 1 failed or interrupted before all was up, 2 wrong arguments."""
    try:
        # Late: one of the parts is a module of this package, and needs none of what the command needs.
        from zlh.demo.command import run

        return run(arguments)
    except KeyboardInterrupt:
        # It came before the demo listened for signals: there was nothing to stop yet.
        return 1
