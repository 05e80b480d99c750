"""The reads that the gateway answers itself, from memory: the routes' answers, at a fraction of the cost."""

from __future__ import annotations

from zlh.api.origins import answer_fields
from zlh.api.routes import SERVERS
from zlh.api.routing import admit, bearer_token
from zlh.api.services import Services
from zlh.model.errors import ProblemError

FIELDS = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]


class Reads:
    """Implements `zlh.gateway.Reads`. Gives good answers only: whatever is not plainly right goes the way of every
    other request, and is refused there in the same words as always."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._route = next(route for route in SERVERS if route.name == "GET /api/servers")
        self._target = self._route.path.encode()

    def __call__(
        self, target: bytes, authorization: bytes, origin: bytes | None, address: str = ""
    ) -> tuple[list[tuple[bytes, bytes]], bytes] | None:
        if target != self._target:
            return None
        services = self._services
        try:
            token = bearer_token(authorization.decode("latin-1"))
            principal = admit(services, self._route, token, {}, address)
        except ProblemError:
            return None
        body = services.fleet.servers_json(services.access.sight(principal))
        services.traffic.count(self._route.name, 200)
        return [*FIELDS, *answer_fields(services.origins, origin)], body
