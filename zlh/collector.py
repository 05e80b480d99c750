"""Python's garbage collector stops the whole program while it looks at everything that lives: half a second with
3,000 containers, again and again. What the fleet is made of lives about as long as the program: let it be.
"""

from __future__ import annotations

import gc
import logging

import trio

log = logging.getLogger("zlh")

SETTLED_SECONDS = 30.0
"""By then a fleet has started, and was observed."""


async def set_aside_what_stays() -> None:
    """Takes the program itself out of the collector's sight, and once it has settled all that lives.

    What of it dies later is freed as soon as nothing refers to it, as ever; only what refers to itself in a circle
    stays, some kilobytes for a container that is torn down, until the next start.
    """
    gc.freeze()
    await trio.sleep(SETTLED_SECONDS)
    # The young, among which is the garbage; the old were looked at often enough while the fleet grew.
    gc.collect(1)
    gc.freeze()
    log.debug("%d objects are no longer looked at by the garbage collector", gc.get_freeze_count())
