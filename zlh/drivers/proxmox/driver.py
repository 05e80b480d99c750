"""What can be asked of a Proxmox cluster.

Every method raises the errors of `zlh.drivers.errors` and nothing else, and may be cancelled at any time. Time-outs
are the caller's cancel scopes; without one a call ends after a minute. A method that returns a UPID has only started
a task: ask `task(upid)` how it ended. A mutation whose error has `may_have_happened` must be looked up
(`recent_tasks`, `config`, `resources`) before it is tried again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from zlh.drivers.errors import Invalid
from zlh.drivers.proxmox import answers
from zlh.drivers.proxmox.answers import Cluster, GuestConfig, GuestStatus, Task, TaskStatus, Upid
from zlh.drivers.proxmox.auth import TicketAuth, TokenAuth
from zlh.drivers.proxmox.tls import Tls
from zlh.drivers.proxmox.wire import CAP_SECONDS, Resource, Wire

_TASKS_LISTED = 500


class ProxmoxDriver:
    """One cluster, reached through `base_url` (`https://pve1.example.com:8006`).

    Raises ValueError for a URL that is neither https nor plain http on a loopback address, and what `Tls.context`
    raises. Keeps at most eight connections. `cap_seconds` ends a call that no caller limits.
    """

    def __init__(
        self,
        base_url: str,
        auth: TokenAuth | TicketAuth,
        tls: Tls | None = None,
        *,
        cap_seconds: float = CAP_SECONDS,
    ) -> None:
        self._base_url = base_url
        self._wire = Wire(base_url, auth, tls or Tls(), cap_seconds=cap_seconds)

    def __repr__(self) -> str:
        return f"ProxmoxDriver({self._base_url!r})"

    async def aclose(self) -> None:
        """Closes the connections; a call afterwards raises Unreachable."""
        await self._wire.aclose()

    async def version(self) -> str:
        """GET /version, such as "9.0.10": the cheapest question that needs a valid sign-in."""
        return answers.version(await self._read(lambda api: api.version.get()))

    async def resources(self) -> Cluster:
        """GET /cluster/resources: every node, container and virtual machine that we may see.

        Raises Invalid where any of it has a wrong shape: half an answer must not pass for a whole one. A user or
        token without VM.Audit on a guest does not see it, and nothing in the answer says so.
        """
        return answers.cluster(await self._read(lambda api: api.cluster.resources.get()))

    async def clone(
        self,
        node: str,
        template: int,
        vmid: int,
        *,
        hostname: str,
        description: str,
        target: str | None = None,
        storage: str | None = None,
        pool: str | None = None,
        full: bool = True,
    ) -> str:
        """POST /nodes/{node}/lxc/{template}/clone; returns the UPID, filed under the *template's* vmid.

        The template stays locked until the task ends: a second clone of it raises Locked. `target` is a node that
        shares the template's storage; `storage` is for full clones only. Raises AlreadyExists for a taken vmid and
        NotFound for a template that is not on `node`. While the task runs, the new container has lock "create".
        """
        return await self._task(
            lambda api: (
                api.nodes(node)
                .lxc(template)
                .clone.post(
                    newid=vmid,
                    hostname=hostname,
                    description=description,
                    target=target,
                    storage=storage,
                    pool=pool,
                    full=full,
                )
            )
        )

    async def configure(
        self,
        node: str,
        vmid: int,
        *,
        memory_mib: int,
        cores: int,
        swap_mib: int | None = None,
        net0: str | None = None,
        nameserver: str | None = None,
        searchdomain: str | None = None,
        onboot: bool | None = None,
        tags: Iterable[str] | None = None,
        description: str | None = None,
    ) -> None:
        """PUT /nodes/{node}/lxc/{vmid}/config, done when it returns; None leaves a setting as it is.

        On a running container `net0` and the memory apply at once, DNS settings with the next start. Doing it twice
        is doing it once. Raises Refused with `details` per parameter, Locked, NotFound.
        """
        await self._write(
            lambda api: (
                api.nodes(node)
                .lxc(vmid)
                .config.put(
                    memory=memory_mib,
                    cores=cores,
                    swap=swap_mib,
                    net0=net0,
                    nameserver=nameserver,
                    searchdomain=searchdomain,
                    onboot=onboot,
                    tags=None if tags is None else ";".join(tags),
                    description=description,
                )
            )
        )

    async def resize(self, node: str, vmid: int, *, disk: str = "rootfs", size_gib: int) -> str:
        """PUT /nodes/{node}/lxc/{vmid}/resize to this size in all; returns the UPID.

        Raises Refused for a smaller size (Proxmox cannot shrink) and Conflict where it has that size already.
        """
        return await self._task(lambda api: api.nodes(node).lxc(vmid).resize.put(disk=disk, size=f"{size_gib}G"))

    async def start(self, node: str, vmid: int) -> str:
        """POST .../status/start; returns the UPID. Raises Conflict while it runs.

        For a vmid that is not on `node` the *task* fails, not the call.
        """
        return await self._task(lambda api: api.nodes(node).lxc(vmid).status.start.post())

    async def stop(self, node: str, vmid: int, *, overrule_shutdown: bool = False) -> str:
        """POST .../status/stop, the plug pulled; returns the UPID. Raises Conflict while it does not run.

        A shutdown in progress holds the container's lock; `overrule_shutdown` ends that one first (PVE 8.2 on).
        """
        parameters = {"overrule-shutdown": True} if overrule_shutdown else {}
        return await self._task(lambda api: api.nodes(node).lxc(vmid).status.stop.post(**parameters))

    async def shutdown(self, node: str, vmid: int, *, timeout_seconds: int, force_stop: bool = True) -> str:
        """POST .../status/shutdown; returns the UPID. Raises Conflict while it does not run.

        After `timeout_seconds` the container is killed, or with `force_stop=False` the task fails.
        """
        return await self._task(
            lambda api: api.nodes(node).lxc(vmid).status.shutdown.post(timeout=timeout_seconds, forceStop=force_stop)
        )

    async def reboot(self, node: str, vmid: int, *, timeout_seconds: int) -> str:
        """POST .../status/reboot: a shutdown, forced after `timeout_seconds`, and a start; returns the UPID."""
        return await self._task(
            lambda api: api.nodes(node).lxc(vmid).status.reboot.post(timeout=timeout_seconds),
        )

    async def destroy(self, node: str, vmid: int, *, purge: bool = True, force: bool = False) -> str:
        """DELETE /nodes/{node}/lxc/{vmid}; returns the UPID.

        `purge` also removes it from backup jobs, replication and HA; `force` stops a running one first, which without
        it is a Conflict. Raises NotFound where it is not on `node`: it may be on another one.
        """
        return await self._task(lambda api: api.nodes(node).lxc(vmid).delete(purge=purge, force=force))

    async def config(self, node: str, vmid: int) -> GuestConfig:
        """GET /nodes/{node}/lxc/{vmid}/config, with changes that wait for the next start. Raises NotFound."""
        return answers.guest_config(await self._read(lambda api: api.nodes(node).lxc(vmid).config.get()))

    async def status(self, node: str, vmid: int) -> GuestStatus:
        """GET /nodes/{node}/lxc/{vmid}/status/current. Raises NotFound."""
        return answers.guest_status(await self._read(lambda api: api.nodes(node).lxc(vmid).status.current.get()))

    async def addresses(self, node: str, vmid: int) -> tuple[str, ...]:
        """GET /nodes/{node}/lxc/{vmid}/interfaces: addresses without prefix, IPv4 first, not those of `lo` and not
        link-local ones. Empty while it has none, does not run, or waits for DHCP.
        """
        return answers.addresses(await self._read(lambda api: api.nodes(node).lxc(vmid).interfaces.get()))

    async def task(self, upid: str) -> TaskStatus:
        """GET /nodes/{node}/tasks/{upid}/status. Success is exit status OK or "WARNINGS: n".

        Raises NotFound for a task that the node knows no more, and Invalid for text that is no UPID.
        """
        node = Upid.parse(upid).node
        return answers.task_status(await self._read(lambda api: api.nodes(node).tasks(upid).status.get()))

    async def recent_tasks(self, node: str, *, vmid: int, since: float) -> tuple[Task, ...]:
        """GET /nodes/{node}/tasks: running and ended tasks of a guest from `since` (Unix seconds, the node's clock)
        on, newest first, to find the task of an answer that was lost. A clone is filed under its template's vmid.
        """
        found = await self._read(
            lambda api: api.nodes(node).tasks.get(vmid=vmid, since=int(since), source="all", limit=_TASKS_LISTED)
        )
        recent = [task for task in answers.tasks(found) if task.started >= int(since)]
        return tuple(sorted(recent, key=lambda task: -task.started))

    async def _read(self, call: Callable[[Resource], Awaitable[object]]) -> object:
        return await self._wire.data(call, mutation=False)

    async def _write(self, call: Callable[[Resource], Awaitable[object]]) -> object:
        return await self._wire.data(call, mutation=True)

    async def _task(self, call: Callable[[Resource], Awaitable[object]]) -> str:
        data = await self._write(call)
        try:
            return Upid.parse(data).text
        except Invalid as error:
            error.may_have_happened = True
            raise
