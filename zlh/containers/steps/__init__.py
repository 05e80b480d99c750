"""What every operation consists of: its steps in order, each looking before it acts."""

from zlh.containers.steps.base import Again, Done, Failed, Job, LooksLast, Outcome, Site, Step, Taken, Task
from zlh.containers.steps.host import TRIED
from zlh.containers.steps.plans import STEPS, step_names

__all__ = [
    "STEPS",
    "TRIED",
    "Again",
    "Done",
    "Failed",
    "Job",
    "LooksLast",
    "Outcome",
    "Site",
    "Step",
    "Taken",
    "Task",
    "step_names",
]
