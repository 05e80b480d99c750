"""Customers' own programs behind our addresses: hosted IDEs and forwarded ports, and who may come to them."""

from zlh.ide.condition import Condition
from zlh.ide.cookies import confine, pass_cookie, pass_name, take_pass
from zlh.ide.gatekeeper import Admitted, Gatekeeper
from zlh.ide.house import House, IdeState
from zlh.ide.machine import Machine
from zlh.ide.passes import Passes
from zlh.ide.places import Names, Place
from zlh.ide.ports import ForwardedPorts
from zlh.ide.presence import Visit
from zlh.ide.reach import Reach
from zlh.ide.regulars import Regular, Regulars

__all__ = [
    "Admitted",
    "Condition",
    "ForwardedPorts",
    "Gatekeeper",
    "House",
    "IdeState",
    "Machine",
    "Names",
    "Passes",
    "Place",
    "Reach",
    "Regular",
    "Regulars",
    "Visit",
    "confine",
    "pass_cookie",
    "pass_name",
    "take_pass",
]
