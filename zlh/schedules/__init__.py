"""What containers do by themselves at certain times: made and changed by customers, carried out by a scheduler."""

from zlh.schedules.book import ScheduleBook
from zlh.schedules.ledger import StoreLedger
from zlh.schedules.scheduler import Scheduler
from zlh.schedules.work import Worker

__all__ = ["ScheduleBook", "Scheduler", "StoreLedger", "Worker"]
