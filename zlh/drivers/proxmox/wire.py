"""One request to Proxmox and its answer, natively on Trio.

`Resource` keeps proxmoxer's URL grammar (`api.nodes("pve1").lxc(5001).config.get()`) and its `ResourceException`,
over httpx. proxmoxer's own backend blocks, and logs every parameter, passwords too, at INFO.

`Wire.data` is the only way in, and the only place where a library's exception becomes one of ours.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Awaitable, Callable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import orjson
import trio
from proxmoxer.core import ProxmoxResource, ResourceException

from zlh.drivers.errors import DriverError, Invalid, Unreachable
from zlh.drivers.proxmox.auth import Proof, TicketAuth, TokenAuth, signer
from zlh.drivers.proxmox.refusals import refusal
from zlh.drivers.proxmox.tls import Tls

CONNECTIONS = 8
CONNECT_SECONDS = 5.0
# Longer than pveproxy waits for a node (30 s); callers set their own, shorter ones as cancel scopes.
CAP_SECONDS = 60.0
# Under pveproxy's own 5 s: a request is never written into a connection that the other side is just closing.
KEEPALIVE_SECONDS = 3.0
MAX_ANSWER_BYTES = 16 * 1024 * 1024


class Resource(ProxmoxResource):  # type: ignore[misc]  # proxmoxer ships no types
    """proxmoxer's resource, whose verbs are coroutines. `_store` holds `base_url` and `exchange`."""

    def _child(self, *parts: object) -> Resource:
        # A "/" or "." in a name must stay a name.
        names = [quote(str(part), safe=":@!").replace(".", "%2E") for part in parts]
        url = "/".join([self._store["base_url"], *names])
        return Resource(base_url=url, exchange=self._store["exchange"])

    def __getattr__(self, item: str) -> Any:
        if item.startswith("_"):
            raise AttributeError(item)
        return self._child(item)

    def __call__(self, resource_id: object = None) -> Resource:
        if resource_id is None or resource_id == ():
            return self
        return self._child(*resource_id) if isinstance(resource_id, tuple) else self._child(resource_id)

    async def _request(
        self, method: str, data: Mapping[str, object] | None = None, params: Mapping[str, object] | None = None
    ) -> object:
        return await self._store["exchange"](method, self._store["base_url"], _plain(data), _plain(params))


def _plain(values: Mapping[str, object] | None) -> dict[str, str]:
    """Parameters as PVE reads them: no None, truth as 1 and 0."""
    plain = {}
    for name, value in (values or {}).items():
        if value is not None:
            plain[name] = str(int(value)) if isinstance(value, bool) else str(value)
    return plain


class Wire:
    """The connections to one cluster. Raises ValueError for a base URL that is not usable.

    Any node of the cluster can be the one asked: it forwards to the node that owns the guest. Plain http is for
    loopback only: the token would travel in clear.
    """

    def __init__(
        self, base_url: str, auth: TokenAuth | TicketAuth, tls: Tls, *, cap_seconds: float = CAP_SECONDS
    ) -> None:
        context = _context(base_url, tls)
        self._cap_seconds = cap_seconds
        self._signer = signer(auth, self._sign_in)
        self._client = httpx.AsyncClient(
            verify=context,
            # Half for the wait for a free connection: so it is known that nothing was sent.
            timeout=httpx.Timeout(cap_seconds, connect=CONNECT_SECONDS, pool=cap_seconds / 2),
            limits=httpx.Limits(
                max_connections=CONNECTIONS,
                max_keepalive_connections=CONNECTIONS,
                keepalive_expiry=KEEPALIVE_SECONDS,
            ),
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "zlh"},
            # Cookies are set per request: one that the server sets must not be sent beside ours.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            # No proxies and no .netrc from the environment: both would meet the token.
            trust_env=False,
        )
        self.api = Resource(base_url=base_url.rstrip("/") + "/api2/json", exchange=self._exchange)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def data(self, call: Callable[[Resource], Awaitable[object]], *, mutation: bool) -> object:
        """`data` of the answer to `call(api)`. Raises DriverError only; cancellation passes."""
        try:
            with trio.fail_after(self._cap_seconds):
                return await call(self.api)
        except ResourceException as error:
            raise _refusal(error, mutation) from None
        except trio.TooSlowError:
            text = f"no answer within {self._cap_seconds:g} s"
            raise Unreachable(text, may_have_happened=mutation) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ssl.SSLError, OSError) as error:
            raise Unreachable(_reason(error), may_have_happened=mutation and not _not_sent(error)) from error

    async def _exchange(self, method: str, url: str, data: dict[str, str], params: dict[str, str]) -> object:
        mutation = method != "GET"
        proof = await self._signer.proof(mutation=mutation)
        try:
            return await self._send(method, url, data, params, proof, mutation=mutation)
        except ResourceException as error:
            if error.status_code != 401 or not self._signer.rejected(proof):
                raise
        # A 401 is sent before anything is done, so that asking again is safe; once, so that it ends.
        proof = await self._signer.proof(mutation=mutation)
        return await self._send(method, url, data, params, proof, mutation=mutation)

    async def _sign_in(self, username: str, password: str) -> object:
        url = f"{self.api._store['base_url']}/access/ticket"
        try:
            form = {"username": username, "password": password}
            return await self._send("POST", url, form, {}, Proof({}), mutation=False)
        except ResourceException as error:
            raise _refusal(error, mutation=False) from None
        except httpx.HTTPError as error:
            # Translated here: what is not known is the sign-in's fate, not that of the mutation that waits for it.
            raise Unreachable(f"sign-in: {_reason(error)}") from error

    async def _send(
        self, method: str, url: str, data: dict[str, str], params: dict[str, str], proof: Proof, *, mutation: bool
    ) -> object:
        if self._client.is_closed:
            raise Unreachable("the connection to Proxmox is closed")
        try:
            async with self._client.stream(
                method, url, data=data or None, params=params or None, headers=proof.headers
            ) as response:
                body = await _body(response)
            if response.status_code >= 300:
                raise _exception(response, body)
            return _data(body)
        except Invalid as error:
            error.may_have_happened = mutation
            raise


def _context(base_url: str, tls: Tls) -> ssl.SSLContext | bool:
    parts = urlsplit(base_url)
    if parts.scheme == "https" and parts.hostname:
        return tls.context()
    if parts.scheme == "http" and parts.hostname and ipaddress.ip_address(parts.hostname).is_loopback:
        return True
    raise ValueError(f"not an https:// URL of a Proxmox node: {base_url!r}")


async def _body(response: httpx.Response) -> bytes:
    # Raw: an answer that is compressed, unasked, is not unpacked into memory but refused as no JSON.
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise Invalid(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    return bytes(body)


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except ValueError:
        raise Invalid(f"an answer that is not JSON: {_excerpt(body)}") from None
    if not isinstance(document, dict):
        raise Invalid(f"an answer that is not a JSON object: {_excerpt(body)}")
    return document


def _data(body: bytes) -> object:
    document = _document(body)
    if "data" not in document:
        raise Invalid(f"an answer without data: {_excerpt(body)}")
    return document["data"]


def _exception(response: httpx.Response, body: bytes) -> ResourceException:
    """PVE 8 and 9 put the message into the body, older ones into the reason phrase only."""
    try:
        document = _document(body)
    except Invalid:
        document = {}
    message = document.get("message")
    errors = document.get("errors")
    return ResourceException(
        response.status_code,
        response.reason_phrase,
        message if isinstance(message, str) else response.reason_phrase,
        errors={str(name): str(text).strip() for name, text in errors.items()} if isinstance(errors, dict) else None,
    )


def _refusal(error: ResourceException, mutation: bool) -> DriverError:
    return refusal(error.status_code, error.content[:2000], mutation=mutation, details=error.errors)


def _excerpt(body: bytes) -> str:
    return repr(body[:80].decode("utf-8", "replace"))


def _not_sent(error: BaseException) -> bool:
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.InvalidURL)


def _reason(error: BaseException) -> str:
    """The first words along the chain of causes: httpx wraps trio's errors, which say nothing themselves."""
    link: BaseException | None = error
    while link is not None:
        if text := str(link).strip():
            return f"{type(error).__name__}: {text}"
        link = link.__cause__ or link.__context__
    return type(error).__name__
