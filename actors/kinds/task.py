"""A supervised loop."""

from __future__ import annotations

from actors.kinds.child import Child, Life
from actors.spec import TaskSpec


class TaskChild(Child):
    kind = "task"
    spec: TaskSpec

    async def run(self, life: Life) -> None:
        await self.spec.run(life.context)

    def asked_to_stop(self, life: Life) -> None:
        life.over.set()
        if not self.spec.graceful:
            life.scope.cancel()
