"""Pages in place of a customer's program: which one says what is the matter, and how it is sent."""

from __future__ import annotations

from zlh.gateway.doors import Arrival
from zlh.gateway.refusals import Refusal
from zlh.ide import Condition, House, IdeState, Place, pages
from zlh.ide.pages import Page
from zlh.model.accounts import Principal
from zlh.wire.http import Fields, RequestHead, build_response


def wants_page(head: RequestHead) -> bool:
    """Whether a person looks at the answer, rather than a program."""
    if head.method not in (b"GET", b"POST") or head.length != 0 or head.upgrade:
        return False
    if head.get(b"sec-fetch-mode") not in (None, b"navigate"):
        return False
    return b"text/html" in (head.get(b"accept") or b"")


class PageWriter:
    def __init__(self, house: House) -> None:
        self._house = house

    async def write(
        self, arrival: Arrival, place: Place, principal: Principal | None, refusal: Refusal
    ) -> bool | None:
        """Whether the client's connection can be used again; None where no page is wanted."""
        head = arrival.head
        if not wants_page(head):
            return None
        page = await self._choose(place, principal, refusal)
        keep = not arrival.client.last and head.keeps_alive
        body = page.render(place)
        fields: Fields = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"content-security-policy", pages.POLICY),
            (b"cache-control", b"no-store"),
            # With no-referrer the button's request would not say where it comes from.
            (b"referrer-policy", b"same-origin"),
            (b"x-content-type-options", b"nosniff"),
            (b"x-request-id", arrival.request_id),
        ]
        if page.refresh is not None:
            fields.append((b"retry-after", b"%d" % page.refresh))
        if not keep:
            fields.append((b"connection", b"close"))
        elif not head.minor:
            fields.append((b"connection", b"keep-alive"))
        await arrival.client.send(build_response(page.status, fields) + body)
        return keep

    async def _choose(self, place: Place, principal: Principal | None, refusal: Refusal) -> Page:
        """Nothing of the container is told to who was not admitted."""
        if refusal.status == 401:
            return pages.signed_out(self._house.portal_url)
        if refusal.status in (403, 404):
            return pages.not_permitted(refusal.message)
        if principal is None and not self._house.gatekeeper.is_public(place):
            return pages.unreachable()
        page = self._of_container(place, principal)
        if page is not None:
            return page
        return await self._of_ide(place.vmid) if place.port is None else pages.port_silent(place.port)

    def _of_container(self, place: Place, principal: Principal | None) -> Page | None:
        """None for a container that is up."""
        condition = self._house.condition(place.vmid)
        if condition is Condition.OFF:
            may = principal is not None and self._house.gatekeeper.may_power(principal, place.vmid)
            return pages.host_off(may)
        found = {
            Condition.STARTING: pages.host_starting,
            Condition.STOPPING: pages.host_stopping,
            Condition.MAKING: pages.host_making,
            Condition.SUSPENDED: pages.suspended,
            Condition.OPEN: None,
        }
        page = found.get(condition, pages.deleting) if condition is not None else pages.deleting
        return page() if page is not None else None

    async def _of_ide(self, vmid: int) -> Page:
        match await self._house.ide_state(vmid):
            case IdeState.STOPPED:
                return pages.ide_stopped()
            case IdeState.STARTING:
                return pages.ide_starting()
            case IdeState.ERROR:
                return pages.ide_failed()
            case IdeState.RUNNING:
                return pages.ide_silent()
            case _:
                return pages.unreachable()
