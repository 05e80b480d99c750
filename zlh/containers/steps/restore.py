"""Steps of a restore: stop the game, have the agent replace its files, wait for it, start the game again.

`arguments` of the operation: "backup", the id; "stop", whether the game may be stopped; "ran", whether it ran before;
"start", whether it is to run in the end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import closing

import trio

from zlh.containers.options import Options
from zlh.containers.steps.agent import ANSWER_SECONDS, trouble_passes
from zlh.containers.steps.base import Again, Done, Failed, Job, Outcome, Step
from zlh.drivers.agent import AgentClient
from zlh.drivers.errors import DriverError, Refused
from zlh.model.backups import BackupState, RestoreState
from zlh.model.observed import AgentState

UP = (AgentState.STARTING, AgentState.RUNNING)
DOWN = (AgentState.IDLE, AgentState.CRASHED, AgentState.ERROR)
UNTOLD = "nobody knows whether the agent restored it: the answer was lost, and this agent does not tell"


class StopGame:
    """The game does not run any more. Taken back, it runs again, where that is sure to do no harm."""

    name = "stop"

    def limit(self, options: Options) -> float:
        return options.agent_seconds

    async def do(self, job: Job) -> Outcome:
        async def look(client: AgentClient) -> Outcome:
            with trouble_passes():
                status = await client.status()
            if status.state in DOWN:
                return Done()
            if status.state not in UP:
                return Again(0.5, f"the game is {status.state.value}")
            if not job.operation.arguments["stop"]:
                return Failed("the game runs; stop it first")
            await client.stop()
            return Again(0.5, "the game is being stopped")

        return await _ask(job, look)

    async def undo(self, job: Job) -> Outcome:
        """Asked once: an agent that cannot be reached must not keep the container from everything else."""
        if not job.operation.arguments["ran"] or job.row.desired.suspended:
            return Done()

        async def look(client: AgentClient) -> Outcome:
            if await _under_way(job, client):
                return Done("the game stays stopped: nobody knows how far the restore went")
            status = await client.status()
            if status.state not in DOWN:
                return Done(f"the game is {status.state.value}")
            await client.start()
            return Done("the game was started again")

        try:
            outcome = await _ask(job, look)
        except DriverError as error:
            return Done(f"the game was not started again: {error}")
        return outcome if isinstance(outcome, Done) else Done("the game was not started again: no answer")


class Restore:
    """The agent has begun. An agent that tells of restores is asked again when it does not know of this one; any
    other is asked once at most."""

    name = "restore"

    def limit(self, options: Options) -> float:
        return options.agent_seconds

    async def do(self, job: Job) -> Outcome:
        backup_id = job.operation.arguments["backup"]

        async def look(client: AgentClient) -> Outcome:
            with trouble_passes():
                found = await client.backups()
            if found.restore is not None and found.restore.key == job.operation.id:
                return Done()
            if not found.tells_restores and _asked(job):
                return Failed(UNTOLD)
            backup = found.find(backup_id)
            if backup is None or backup.state is not BackupState.READY:
                return Failed("the backup is not there any more" if backup is None else "the backup is not ready")
            await _begin(job, client, backup_id)
            return Done()

        return await _ask(job, look)

    async def last_look(self, job: Job) -> Outcome:
        """Whether it has begun all the same; it is not begun so late."""

        async def look(client: AgentClient) -> Outcome:
            with trouble_passes():
                found = await client.backups()
            if found.restore is not None and found.restore.key == job.operation.id:
                return Done()
            if not found.tells_restores and _asked(job):
                return Failed(UNTOLD)
            why = job.operation.step(self.name).note or "the agent was not asked"
            return Failed(f"{_too_long(self, job)}, and the agent has not begun: {why}")

        return await _ask(job, look)

    async def undo(self, job: Job) -> Outcome:
        """The agent puts everything back itself where it cannot finish."""
        return Done()


class AwaitRestored:
    """The agent says that the files are those of the backup."""

    name = "restored"

    def limit(self, options: Options) -> float:
        return options.restore_seconds

    async def do(self, job: Job) -> Outcome:
        # There is nothing to do but to wait: others may have the place.
        return await self._look(job, Again(0.5, "the agent replaces the files", idle=True))

    async def last_look(self, job: Job) -> Outcome:
        return await self._look(job, Failed(f"{_too_long(self, job)}, and the agent is still replacing the files"))

    async def _look(self, job: Job, under_way: Outcome) -> Outcome:
        async def look(client: AgentClient) -> Outcome:
            with trouble_passes():
                found = await client.backups()
            if not found.tells_restores:
                return Done("the agent took it on; it does not tell more")
            if found.restore is None or found.restore.key != job.operation.id:
                return Failed("the agent knows nothing of this restore")
            match found.restore.state:
                case RestoreState.DONE:
                    return Done()
                case RestoreState.FAILED:
                    return Failed(found.restore.error or "the agent gives no reason")
            return under_way

        return await _ask(job, look)

    async def undo(self, job: Job) -> Outcome:
        return Done()


class StartGame:
    """The game was told to start, where it is to run. How that goes is the container's state, not the restore's."""

    name = "start"

    def limit(self, options: Options) -> float:
        return options.agent_seconds

    async def do(self, job: Job) -> Outcome:
        if not job.operation.arguments["start"] or job.row.desired.suspended:
            return Done("stays stopped")

        async def look(client: AgentClient) -> Outcome:
            with trouble_passes():
                status = await client.status()
            if status.state in DOWN:
                await client.start()
            return Done()

        return await _ask(job, look)

    async def undo(self, job: Job) -> Outcome:
        return Done()


async def _ask(job: Job, look: Callable[[AgentClient], Awaitable[Outcome]]) -> Outcome:
    with closing(job.site.agent(job.row, job.row.agent_token)) as client, trio.move_on_after(ANSWER_SECONDS):
        return await look(client)
    return Again(1.0, f"the agent does not answer within {ANSWER_SECONDS:g} s")


def _too_long(step: Step, job: Job) -> str:
    return f"it took longer than {step.limit(job.site.options):g} s"


async def _begin(job: Job, client: AgentClient, backup_id: str) -> None:
    """On record before it is asked: after a crash of ours, who cannot be looked at is not asked twice."""
    await job.remember({"asked": True})
    try:
        await client.restore(backup_id, job.operation.id)
    except DriverError as error:
        if not (error.may_have_happened or (isinstance(error, Refused) and error.status >= 500)):
            await job.remember({"asked": None})
        raise


def _asked(job: Job) -> bool:
    return bool(job.operation.step(Restore.name).data.get("asked"))


async def _under_way(job: Job, client: AgentClient) -> bool:
    """Whether the agent may be at it still."""
    if not _asked(job):
        return False
    found = await client.backups()
    if not found.tells_restores:
        return True
    restore = found.restore
    return restore is not None and restore.state is RestoreState.RESTORING
