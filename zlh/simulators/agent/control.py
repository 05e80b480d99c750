"""The control endpoint of a fleet, for tests and the demo.

GET    /agents   {"agents": [{vmid, address, port, state, light, requests, connections, faults}]}
POST   /faults   {"fault": name, "vmid" | "vmids" | "fraction" (default: all), parameters} -> {"vmids"}
DELETE /faults   {"fault"?, "vmid" | "vmids"} in the body; without a body every fault of every agent
POST   /seeds    {"agents": [{"vmid", "config": the POST /config payload}]}: installed and running at once
"""

from __future__ import annotations

from zlh.simulators.agent.faults import Fault, FaultName
from zlh.simulators.agent.fleet import Fleet
from zlh.simulators.agent.http import Refusal, Request, Response, json_response


class Control:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def answer(self, request: Request) -> Response:
        match request.method, request.path:
            case "GET", "/agents":
                return json_response({"agents": self._fleet.as_list()})
            case "POST", "/faults":
                return await self._cause(request)
            case "DELETE", "/faults":
                return await self._clear(request)
            case "POST", "/seeds":
                return await self._seed(request)
            case _:
                raise Refusal(404, "no such endpoint")

    async def _cause(self, request: Request) -> Response:
        wish = await request.json()
        fault = Fault.parse(wish)
        vmids = self._fleet.choose(wish)
        self._fleet.set_fault(vmids, fault)
        return json_response({"vmids": vmids})

    async def _clear(self, request: Request) -> Response:
        wish = await request.json()
        name = wish.get("fault")
        if name is not None and name not in list(FaultName):
            raise Refusal(400, f"`fault` is none of {', '.join(FaultName)}")
        vmids = self._fleet.choose(wish)
        self._fleet.clear_faults(vmids, name and FaultName(name))
        return json_response({"vmids": vmids})

    async def _seed(self, request: Request) -> Response:
        agents = (await request.json()).get("agents")
        if not isinstance(agents, list):
            raise Refusal(400, "`agents` is not a list")
        for item in agents:
            if (
                not isinstance(item, dict)
                or not isinstance(item.get("vmid"), int)
                or not isinstance(item.get("config"), dict)
            ):
                raise Refusal(400, "each of `agents` has a `vmid` and a `config`")
        for item in agents:
            self._fleet.seed(item["vmid"], item["config"])
        return json_response({"seeded": len(agents)})
