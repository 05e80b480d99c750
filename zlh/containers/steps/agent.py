"""Steps towards the agent: wait until it answers, hand it its configuration, wait until it says running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import trio

from zlh.containers.options import Options
from zlh.containers.steps.base import Again, Done, Failed, Job, Outcome
from zlh.drivers.agent import AgentClient
from zlh.drivers.errors import Refused, Unreachable
from zlh.model.games import agent_payload
from zlh.model.observed import AgentState

ANSWER_SECONDS = 4.0
"""An agent that hangs must not hold the mailbox: somebody may want its container deleted."""


class AwaitAgent:
    """The agent answers GET /health with one of the two tokens that it may have."""

    name = "agent"

    def limit(self, options: Options) -> float:
        return options.agent_seconds

    async def do(self, job: Job) -> Outcome:
        known = None
        try:
            with trio.move_on_after(ANSWER_SECONDS):
                known = await accepts(job, job.row.agent_token) or await accepts(
                    job, job.site.options.bootstrap_token
                )
        except Unreachable as error:
            return Again(1.0, f"the agent does not answer yet: {error}")
        if known is None:
            return Again(1.0, f"the agent does not answer within {ANSWER_SECONDS:g} s")
        return Done() if known else Failed("the agent accepts neither its own token nor the bootstrap token")

    async def undo(self, job: Job) -> Outcome:
        return Done()


class SendConfig:
    """POST /config; an agent that accepts its own token has taken it before."""

    name = "config"

    def limit(self, options: Options) -> float:
        return options.agent_seconds

    async def do(self, job: Job) -> Outcome:
        if await accepts(job, job.row.agent_token):
            return Done()
        try:
            payload = agent_payload(job.row, job.site.games)
        except KeyError:
            software = job.row.software
            return Failed(f"nothing is known of how to install {software.name} {software.variant}")
        with closing(job.site.agent(job.row, job.site.options.bootstrap_token)) as client:
            await client.configure(payload)
        return Done()

    async def undo(self, job: Job) -> Outcome:
        return Done()


class AwaitRunning:
    """Installation goes on inside the container; its steps become notes of ours."""

    name = "running"

    def limit(self, options: Options) -> float:
        return options.install_seconds

    async def do(self, job: Job) -> Outcome:
        with closing(job.site.agent(job.row, job.row.agent_token)) as client, trio.move_on_after(ANSWER_SECONDS):
            return await self._look(client)
        return Again(1.0, f"the agent does not answer within {ANSWER_SECONDS:g} s")

    async def _look(self, client: AgentClient) -> Outcome:
        with trouble_passes():
            status = await client.status()
        if status.state is AgentState.RUNNING:
            return Done()
        if status.state in (AgentState.CRASHED, AgentState.ERROR):
            return Failed(f"the agent says {status.state.value}: {status.error or 'it gives no reason'}")
        if status.state is AgentState.IDLE:
            await client.start()
        return Again(1.0, status.install_step or status.state.value)

    async def undo(self, job: Job) -> Outcome:
        return Done()


@contextmanager
def trouble_passes() -> Iterator[None]:
    """An agent that answers a question with a status of 500 and up has trouble of its own, most often because it is
    just coming up: it counts as not answering, which the step's time limit bounds."""
    try:
        yield
    except Refused as error:
        if error.status < 500:
            raise
        raise Unreachable(str(error)) from error


async def accepts(job: Job, token: str) -> bool:
    """Whether the agent lets this token in. Raises Unreachable."""
    with closing(job.site.agent(job.row, token)) as client:
        try:
            with trouble_passes():
                await client.health()
        except Refused as error:
            if error.status in (401, 403):
                return False
            raise
    return True
