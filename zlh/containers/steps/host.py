"""Steps towards Proxmox: clone, configure, resize, start, shut down, destroy."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from zlh.containers.options import Options
from zlh.containers.placement import Placement, place
from zlh.containers.steps.base import BUSY, MARK, TAG, Again, Done, Failed, Job, Outcome, Taken, Task
from zlh.drivers.errors import AlreadyExists
from zlh.drivers.proxmox import Cluster, GuestConfig


class Clone:
    """Makes the container from its template on the node with the most free memory."""

    name = "clone"

    def limit(self, options: Options) -> float:
        return options.clone_seconds

    async def do(self, job: Job) -> Outcome:
        config = await job.config()
        if config is not None:
            return self._present(job, config)
        cluster = job.site.cluster()
        if cluster is None:
            return Again(1.0, "Proxmox did not answer yet")
        placement = self._placement(job, cluster)
        if isinstance(placement, str):
            return Again(5.0, placement, idle=True)
        if job.node != placement.target:
            return Again(0.0, f"goes to node {placement.target}", row={"node": placement.target})
        if not job.site.clones.enter(str(placement.template), job.row.vmid):
            note = f"waits for template {placement.template}: another clone of it is under way"
            return Again(3.0, note, in_line=True)
        if not job.may_mutate(placement.target):
            return BUSY
        return await self._clone(job, placement)

    async def _clone(self, job: Job, placement: Placement) -> Outcome:
        options = job.site.options
        remote = placement.template_node != placement.target
        try:
            upid = await job.site.proxmox.clone(
                placement.template_node,
                placement.template,
                job.row.vmid,
                hostname=job.row.hostname,
                description=f"{MARK}: {job.row.name}, account {job.row.owner_id}",
                target=placement.target if remote else None,
                storage=options.storage if options.clone_full else None,
                pool=options.pool,
                full=options.clone_full,
            )
        except AlreadyExists as error:
            # Ours, if an earlier call was carried out and its answer was lost; the next look tells.
            config = await job.config()
            return self._present(job, config) if config is not None else Taken(str(error))
        return Task(upid)

    def _present(self, job: Job, config: GuestConfig) -> Outcome:
        if being_made(config):
            return Again(1.0, f"Proxmox is making container {job.row.vmid}")
        if not job.owns(config):
            return Taken(f"vmid {job.row.vmid} is in use by another container ({config.hostname})")
        if config.lock:
            return Again(1.0, f"Proxmox holds it: {config.lock}")
        return Done(f"on node {job.node}")

    def _placement(self, job: Job, cluster: Cluster) -> Placement | str:
        """The node once chosen stays chosen, so that a look after a restart finds what was begun."""
        options = job.site.options
        return place(
            cluster,
            allowed=(job.node,) if job.node else options.nodes,
            templates=options.templates[job.row.ctype],
            memory_mib=None if job.node else job.row.resources.memory_mib,
            pending_mib=job.site.pending_memory,
        )

    async def undo(self, job: Job) -> Outcome:
        return await remove(job)


class Configure:
    """Sizes and names the container. Undone only by an upgrade, which goes back to the sizes before it."""

    name = "configure"

    def limit(self, options: Options) -> float:
        return options.boot_seconds

    async def do(self, job: Job) -> Outcome:
        return await self._apply(job, job.row.resources.memory_mib, job.row.resources.cpu_cores)

    async def undo(self, job: Job) -> Outcome:
        before = job.operation.arguments.get("before")
        config = await job.config() if before is not None else None
        if before is None or config is None or not job.owns(config):
            return Done("there is nothing to take back")
        return await self._apply(job, before["memory_mib"], before["cpu_cores"])

    async def _apply(self, job: Job, memory_mib: int, cores: int) -> Outcome:
        config = await job.config()
        if config is None or not job.owns(config):
            return Failed("the container does not exist in Proxmox")
        net0 = net0_of(job)
        sized = (config.memory_mib, config.cores) == (memory_mib, cores)
        if sized and TAG in config.tags and _same_net(config.net0, net0):
            return Done(f"{memory_mib} MiB, {cores} cores")
        if not job.may_mutate():
            return BUSY
        await job.site.proxmox.configure(
            job.node,
            job.row.vmid,
            memory_mib=memory_mib,
            swap_mib=0,
            cores=cores,
            net0=net0,
            nameserver=job.site.options.nameserver,
            onboot=True,
            tags=(TAG, job.row.ctype.value),
        )
        return Done(f"{memory_mib} MiB, {cores} cores")


class Resize:
    """Grows the root disk; Proxmox cannot shrink it, so there is nothing to undo."""

    name = "resize"

    def limit(self, options: Options) -> float:
        return options.clone_seconds

    async def do(self, job: Job) -> Outcome:
        config = await job.config()
        if config is None or not job.owns(config):
            return Failed("the container does not exist in Proxmox")
        wanted = job.row.resources.disk_gib
        if config.disk_gib is not None and config.disk_gib >= wanted:
            return Done(f"{config.disk_gib:g} GiB")
        if not job.may_mutate():
            return BUSY
        return Task(await job.site.proxmox.resize(job.node, job.row.vmid, size_gib=wanted))

    async def undo(self, job: Job) -> Outcome:
        return Done()


class Start:
    name = "start"

    def limit(self, options: Options) -> float:
        return options.boot_seconds

    async def do(self, job: Job) -> Outcome:
        config = await job.config()
        if config is None or not job.owns(config):
            return Failed("the container does not exist in Proxmox")
        if await job.running():
            return Done()
        if not job.may_mutate():
            return BUSY
        return Task(await job.site.proxmox.start(job.node, job.row.vmid))

    async def undo(self, job: Job) -> Outcome:
        """A container that is to be removed is stopped by `remove`; one that stays is left as it is."""
        return Done()


class Shutdown:
    """Asks the container to shut down, and ends it when the time is up."""

    name = "shutdown"

    def limit(self, options: Options) -> float:
        return options.shutdown_seconds + options.boot_seconds

    async def do(self, job: Job) -> Outcome:
        config = await job.config()
        if config is None or not job.owns(config):
            return Done("there is nothing to stop")
        if not await job.running():
            return Done()
        if not job.may_mutate():
            return BUSY
        seconds = int(job.site.options.shutdown_seconds)
        return Task(await job.site.proxmox.shutdown(job.node, job.row.vmid, timeout_seconds=seconds, force_stop=True))

    async def undo(self, job: Job) -> Outcome:
        return Done()


class Address:
    """The address from our own pool was reserved with the vmid; from DHCP it shows once the container is up, and may
    be another one after every start. Of several, one that no other container has is taken: `TRIED` in the step's data
    are those that some had. What a container says of itself is not believed about other networks than ours."""

    name = "address"

    def limit(self, options: Options) -> float:
        return options.boot_seconds

    async def do(self, job: Job) -> Outcome:
        if job.site.options.address_pool and job.row.address is not None:
            return Done(job.row.address)
        addresses = await job.site.proxmox.addresses(job.node, job.row.vmid)
        usable = sorted((one for one in addresses if _is_in(one, job.site.options.networks)), key=_version)
        if not usable:
            elsewhere = f": {', '.join(addresses)} is in no network of containers" if addresses else ""
            return Again(1.0, f"the container has no address yet{elsewhere}")
        if job.row.address in usable and _version(job.row.address) == _version(usable[0]):
            return Done(job.row.address)
        tried = job.operation.step(self.name).data.get(TRIED) or ()
        left = [address for address in usable if address not in tried]
        if not left:
            # Whoever has them may have let go meanwhile.
            await job.remember({TRIED: None})
            return Again(3.0, f"another container has the address {' and '.join(usable)}")
        return Done(left[0], row={"address": left[0]})

    async def undo(self, job: Job) -> Outcome:
        return Done()


TRIED = "tried"


def _version(address: str) -> int:
    return ip_address(address).version


def _is_in(address: str, networks: Sequence[str]) -> bool:
    found = ip_address(address)
    return not networks or any(found in ip_network(network, strict=False) for network in networks)


class Destroy:
    """Removes the container from Proxmox; one that is gone already, or is not ours, counts as removed."""

    name = "destroy"

    def limit(self, options: Options) -> float:
        return float("inf")

    async def do(self, job: Job) -> Outcome:
        return await remove(job)

    async def undo(self, job: Job) -> Outcome:
        return Done()


async def remove(job: Job) -> Outcome:
    """Stops, then destroys, looking again after each; safe to call at any point of a half-made container."""
    if not job.node:
        return Done("it was never placed on a node")
    config = await job.config()
    if config is None:
        return _gone(job)
    if being_made(config):
        return Again(1.0, f"Proxmox is making container {job.row.vmid}")
    if not job.owns(config):
        return Done(f"vmid {job.row.vmid} belongs to another container now ({config.hostname}); left alone")
    if config.lock:
        return Again(1.0, f"Proxmox holds it: {config.lock}")
    if not job.may_mutate():
        return BUSY
    if await job.running():
        return Task(await job.site.proxmox.stop(job.node, job.row.vmid))
    return Task(await job.site.proxmox.destroy(job.node, job.row.vmid, purge=True))


def _gone(job: Job) -> Outcome:
    """Not on its node; a container that was migrated by hand is found on another."""
    cluster = job.site.cluster()
    if cluster is None:
        return Again(2.0, "Proxmox did not answer yet")
    for guest in cluster.guests:
        if guest.vmid == job.row.vmid and guest.node != job.node and guest.name == job.row.hostname:
            return Again(1.0, f"found on node {guest.node}", row={"node": guest.node})
    return Done("gone")


def being_made(config: GuestConfig) -> bool:
    """A clone bears its host name and description only when it is complete: until then nobody knows whose it is."""
    return config.lock == "create"


def net0_of(job: Job) -> str:
    """The network line: static from our pool, or DHCP."""
    options = job.site.options
    if not options.address_pool:
        return f"{options.net0},ip=dhcp"
    gateway = f",gw={options.gateway_address}" if options.gateway_address else ""
    return f"{options.net0},ip={job.row.address}/{options.address_prefix}{gateway}"


def _same_net(present: str | None, wanted: str) -> bool:
    """Proxmox adds hwaddr and type of its own."""
    return present is not None and set(wanted.split(",")) <= set(present.split(","))
