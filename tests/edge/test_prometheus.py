from __future__ import annotations

from tests.edge.far import publication
from zlh.edge.prometheus import Exporters, groups
from zlh.model.containers import ContainerType, Power
from zlh.model.edge import Stage

EXPORTERS = Exporters(9100, 18888, "/metrics")


def test_a_container_has_a_group_for_each_exporter() -> None:
    node, agent = groups([publication(5001, address="10.0.0.1")], EXPORTERS, {1: "starter"})
    assert node == {
        "targets": ["10.0.0.1:9100"],
        "labels": {
            "vmid": "5001",
            "customerId": "1",
            "ctype": "game",
            "game": "terraria",
            "variant": "vanilla",
            "plan": "starter",
            "node": "pve1",
            "exporter": "node",
            "__metrics_path__": "/metrics",
        },
    }
    assert (agent["targets"], agent["labels"]["exporter"]) == (["10.0.0.1:18888"], "agent")


def test_only_what_runs_and_can_be_reached_is_scraped() -> None:
    assert groups([publication(5001, power=Power.OFF)], EXPORTERS, {}) == []
    assert groups([publication(5001, address=None)], EXPORTERS, {}) == []
    for stage in (Stage.LEAVING, Stage.SUSPENDED):
        assert groups([publication(5001, stage=stage)], EXPORTERS, {}) == []
    (dev,) = groups(
        [publication(6001, ctype=ContainerType.DEV, address="fd00::1")], Exporters(9100, 18888, ""), {1: None}
    )
    assert dev["targets"] == ["[fd00::1]:9100"]
    assert (dev["labels"]["game"], dev["labels"]["plan"]) == ("", "")
