"""Steps towards the edge: a new container is found by others, and one that goes leaves nothing behind.

A target that is away never holds an operation up: what it was not told is owed, and told when it returns.
"""

from __future__ import annotations

from zlh.containers.options import Options
from zlh.containers.publication import PUBLISH
from zlh.containers.steps.base import Again, Done, Job, Outcome

LOOK_SECONDS = 0.5
"""In case that nobody says when it is done."""


class Publish:
    """From its beginning on the container is to be found; done when it is, or when what is missing is owed."""

    name = PUBLISH

    def limit(self, options: Options) -> float:
        return float("inf")

    async def do(self, job: Job) -> Outcome:
        return _told(job, "published")

    async def undo(self, job: Job) -> Outcome:
        return _told(job, "withdrawn")


class Withdraw:
    """Before anything else of a container goes: nobody is to be led to an address that is another's next."""

    name = "withdraw"

    def limit(self, options: Options) -> float:
        return float("inf")

    async def do(self, job: Job) -> Outcome:
        return _told(job, "withdrawn")

    async def undo(self, job: Job) -> Outcome:
        return Done()


def _told(job: Job, done: str) -> Outcome:
    lags = job.site.edge.lags(job.row.vmid)
    if not lags:
        return Done(done)
    told = "; ".join(f"{lag.target}: {lag.reason}" for lag in lags)
    if any(lag.soon for lag in lags):
        return Again(LOOK_SECONDS, f"waits for {told}")
    return Done(f"owed to {told}")
