"""The one listening socket: judges every request, relays the control plane, serves consoles and some reads itself."""

from zlh.gateway.gateway import Gateway, serve
from zlh.gateway.hypercorn import serve_app
from zlh.gateway.limits import Limits
from zlh.gateway.listener import bind_listener
from zlh.gateway.reads import Reads
from zlh.gateway.stats import Stats

__all__ = ["Gateway", "Limits", "Reads", "Stats", "bind_listener", "serve", "serve_app"]
