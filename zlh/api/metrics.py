"""/metrics: what Prometheus scrapes. Sums only: no name, address or account appears in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from quart import Response
from quart_trio.wrappers import TrioResponse

from zlh.api.call import Call
from zlh.api.services import Services
from zlh.model.access import EVERYTHING_IN_SIGHT


async def metrics(call: Call) -> Response:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ServicesCollector(call.services))
    ProcessCollector(registry=registry)
    return TrioResponse(generate_latest(registry), 200, content_type=CONTENT_TYPE_LATEST)


class ServicesCollector(Collector):
    """Looks at the parts when it is asked, and keeps nothing."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("zlh_up_since", "When this process started, Unix seconds.", self._services.started_at)
        yield self._servers()
        yield from _numbers("zlh_fleet", self._services.fleet.statistics())
        yield from _numbers("zlh_gateway", self._services.statistics())
        yield from _numbers("zlh_billing", self._services.billing.statistics())
        yield from self._actors()
        yield from self._edge()
        yield self._answers()
        yield GaugeMetricFamily(
            "zlh_access_grants", "Open streams and consoles.", self._services.access.open_grants()
        )
        yield GaugeMetricFamily(
            "zlh_audit_waiting", "Acts that wait to be recorded.", self._services.people.audit.waiting
        )

    def _servers(self) -> Metric:
        fleet = self._services.fleet
        counted = Counter(
            (container.ctype.value, fleet.server(container.vmid).status)
            for container in fleet.containers(EVERYTHING_IN_SIGHT)
        )
        family = GaugeMetricFamily("zlh_servers", "Containers by type and status.", labels=["ctype", "status"])
        for labels, number in sorted(counted.items()):
            family.add_metric(list(labels), number)
        return family

    def _actors(self) -> Iterator[Metric]:
        states: Counter[str] = Counter()
        restarts = crashes = waiting = 0
        for snapshot in self._services.tree.snapshot().walk():
            states[str(snapshot.state.value)] += 1
            restarts += snapshot.restarts
            crashes += snapshot.crashes
            waiting += sum(lane.depth for lane in snapshot.lanes.values())
        family = GaugeMetricFamily("zlh_actors", "Children of the supervision tree by state.", labels=["state"])
        for state, number in sorted(states.items()):
            family.add_metric([state], number)
        yield family
        yield GaugeMetricFamily("zlh_actor_restarts", "Restarts of the children that are there now.", restarts)
        yield GaugeMetricFamily("zlh_actor_crashes", "Crashes of the children that are there now.", crashes)
        yield GaugeMetricFamily("zlh_mailbox_depth", "Messages that wait in mailboxes.", waiting)

    def _edge(self) -> Iterator[Metric]:
        reports = self._services.edge.reports()
        for name, told, number in (
            ("reachable", "Whether a target of the edge answers.", lambda report: float(bool(report.reachable))),
            ("wanted", "Entries that are wanted at a target.", lambda report: report.wanted),
            ("actual", "Entries of ours that are at a target.", lambda report: report.actual or 0),
            ("owed", "Entries that are still to be removed from a target.", lambda report: len(report.owed)),
            ("blocked", "Entries whose places somebody else holds.", lambda report: len(report.blocked)),
            ("calls", "Calls to a target since the start.", lambda report: report.calls),
        ):
            family = GaugeMetricFamily(f"zlh_edge_{name}", told, labels=["target"])
            for report in reports:
                family.add_metric([report.name], number(report))
            yield family

    def _answers(self) -> Metric:
        family = CounterMetricFamily("zlh_http_answers", "Answers by route and status.", labels=["route", "status"])
        for (route, status), number in sorted(self._services.traffic.answers.items()):
            family.add_metric([route, str(status)], number)
        return family


def _numbers(prefix: str, values: Mapping[str, float | Mapping[str, float]]) -> Iterator[Metric]:
    for name, value in sorted(values.items()):
        words = name.replace("_", " ")
        if isinstance(value, Mapping):
            family = GaugeMetricFamily(f"{prefix}_{name}", words, labels=["kind"])
            for label, number in sorted(value.items()):
                family.add_metric([label], number)
            yield family
        else:
            yield GaugeMetricFamily(f"{prefix}_{name}", words, value)
