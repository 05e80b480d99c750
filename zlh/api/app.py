"""The Quart application: the route table, the envelope for everything that goes wrong, and CORS around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from quart import Response, request, websocket
from quart.routing import QuartRule
from quart_trio import QuartTrio

from zlh.api import errors
from zlh.api.origins import Cors
from zlh.api.routes import ROUTES
from zlh.api.routing import IdConverter, PortConverter, Route, VmidConverter, answer
from zlh.api.safety import Safety
from zlh.api.services import Services
from zlh.wire.browsers import safety_fields

LARGEST_BODY = 1024 * 1024


class _MatchedOnly(QuartRule):
    """A rule from which no address is built. Werkzeug compiles two functions per rule for `url_for`, which nobody
    calls: a millisecond each, at every start."""

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        return _nowhere


def _nowhere(_rule: QuartRule, **_values: Any) -> tuple[str, str]:
    raise NotImplementedError("addresses are written by hand")


class _Application(QuartTrio):
    url_rule_class = _MatchedOnly  # type: ignore[assignment]  # as Quart does for its own


def create_app(services: Services, routes: Iterable[Route] = ROUTES) -> QuartTrio:
    """Holds no state of its own: everything it needs is in `services`, and it starts nothing."""
    app = _Application(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    # Trailing slashes and doubled ones are other addresses, not this one: no redirect tells where a token goes.
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    app.url_map.converters["vmid"] = VmidConverter
    app.url_map.converters["id"] = IdConverter
    app.url_map.converters["port"] = PortConverter
    for route in routes:
        if route.websocket:
            app.add_websocket(route.path, route.name, _websocket_view(services, route))
        else:
            app.add_url_rule(
                route.path,
                route.name,
                _view(services, route),
                methods=[route.method],
                provide_automatic_options=False,
            )
    errors.install(app)
    allowed = Cors(app.asgi_app, services.origins)
    app.asgi_app = Safety(allowed, safety_fields(services.url()))  # type: ignore[method-assign]
    return app


def _view(services: Services, route: Route) -> Callable[..., Awaitable[Response]]:
    async def view(**parameters: Any) -> Response:
        return await answer(services, route, _behind(request), parameters)

    return view


def _websocket_view(services: Services, route: Route) -> Callable[..., Awaitable[Response | None]]:
    async def view(**parameters: Any) -> Response | None:
        answered: Response | None = await route.handler(services, route, _behind(websocket), **parameters)
        return answered

    return view


def _behind(proxy: Any) -> Any:
    """The object itself: each attribute read through Quart's proxy would look the context up again."""
    return proxy._get_current_object()
