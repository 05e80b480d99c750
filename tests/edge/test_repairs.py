from __future__ import annotations

from zlh.edge.repairs import RepairRecord
from zlh.model.audit import MOST_ITEMS, Act, Ending, Outcome
from zlh.model.edge import Change, Entry, Verb


def test_the_repairs_of_one_look_are_one_entry_of_the_record() -> None:
    noted: list[tuple[Act, Ending]] = []
    record = RepairRecord(lambda act, ending: noted.append((act, ending)))
    changes = [
        Change(Verb.ADD, Entry(5000 + n, "A", f"n{n}.zlh.test", "10.0.0.1", 60), "it is missing") for n in range(500)
    ]
    record("technitium", changes)
    record("technitium", changes[:1])
    (many, ending), (one, _) = noted
    assert (many.action, many.credential, many.vmid, ending.outcome) == ("edge.repaired", "none", None, Outcome.DONE)
    assert many.details["target"] == "technitium"
    assert len(many.details["repairs"]) == MOST_ITEMS  # type: ignore[arg-type]
    assert (one.vmid, one.details["repairs"]) == (5000, ["add A n0.zlh.test 10.0.0.1: it is missing"])
