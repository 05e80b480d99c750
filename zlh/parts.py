"""Parts made from settings: each function reads its section and hands plain values on."""

from __future__ import annotations

import ipaddress
import logging
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import trio

from zlh.accounts import (
    AccountServices,
    Also,
    Passwords,
    Rules,
    TokenRules,
    email_problem,
    open_accounts,
    password_problem,
    username_problem,
)
from zlh.api.origins import as_browsers_write
from zlh.containers import Fleet, Options, Polling
from zlh.drivers.mail import Folder, Nowhere, Security, Smtp, parse_sender
from zlh.drivers.proxmox import ProxmoxDriver, TicketAuth, Tls, TokenAuth
from zlh.gateway import bind_listener
from zlh.ide import ForwardedPorts, Gatekeeper, House, Machine, Names, Passes, Reach
from zlh.mail import Transport
from zlh.model.accounts import Account, Role
from zlh.model.containers import ContainerType
from zlh.model.errors import InvalidError
from zlh.model.games import CODE_SERVER_PORT
from zlh.settings import Settings, SettingsError
from zlh.store import Database, Vault
from zlh.store.embedded import join_embedded, open_embedded
from zlh.store.migrate import migrate

log = logging.getLogger("zlh")


@asynccontextmanager
async def open_database(settings: Settings, *, beside: bool = False) -> AsyncIterator[Database]:
    """The database of the settings, embedded or not, at the newest revision. `beside`: another process may run the
    embedded one, and goes on running it."""
    async with AsyncExitStack() as stack:
        url = settings.database.url
        if not url:
            opened = join_embedded if beside else open_embedded
            url = await stack.enter_async_context(opened(Path(settings.database.data_dir)))
        await trio.to_thread.run_sync(migrate, url)
        database = Database(url, settings.database.pool_size, vault=open_vault(settings))
        stack.push_async_callback(database.aclose)
        yield database


async def create_user(
    settings: Settings,
    *,
    email: str,
    username: str,
    password: str,
    role: Role,
    plan: str | None,
    also: Also | None = None,
) -> Account:
    """Makes an account without the API; a running API hears of it. What a registration would refuse is refused here
    too. `also` is called in the transaction that makes it. Raises ConflictError, InvalidError."""
    wrong_password = password_problem(password, email=email, username=username)
    for problem in (email_problem(email), username_problem(username), wrong_password):
        if problem is not None:
            raise InvalidError(problem)
    async with open_database(settings, beside=True) as database:
        people = await open_people(settings, database, open_vault(settings))
        return await people.accounts.create(
            email=email, username=username, password=password, role=role, plan=plan, also=also
        )


def token_rules(settings: Settings) -> TokenRules:
    chosen = settings.accounts
    return TokenRules(
        chosen.issuer,
        chosen.access_token_seconds,
        signing_key_days=chosen.signing_key_days,
        signing_key_publish_seconds=chosen.signing_key_publish_seconds,
        longest_seconds=settings.ide.session_seconds,
    )


async def open_people(settings: Settings, database: Database, vault: Vault) -> AccountServices:
    chosen = settings.accounts
    return await open_accounts(
        database,
        vault,
        Passwords(
            memory_kib=chosen.argon2_memory_mib * 1024,
            passes=chosen.argon2_passes,
            lanes=chosen.argon2_lanes,
            threads=chosen.hashing_threads,
        ),
        Rules(
            registration=chosen.registration,
            default_plan=chosen.default_plan or None,
            refresh_token_days=chosen.refresh_token_days,
            attempts_per_account=chosen.attempts_per_account,
            attempts_per_address=chosen.attempts_per_address,
            attempts_seconds=chosen.attempts_seconds,
            operators_need_second_factor=chosen.operators_need_second_factor,
            mail=settings.mail.mode != "off",
            portal_url=portal_url(settings),
        ),
        token_rules(settings),
    )


def portal_url(settings: Settings) -> str:
    """Where the links in letters lead."""
    server = settings.server
    host = f"[{server.host}]" if ":" in server.host else server.host
    return server.portal_url or server.public_url or f"http://{host}:{server.port}"


def open_mail(settings: Settings) -> Transport:
    """How messages leave. Raises SettingsError for a sender that is no e-mail address, and where nobody could follow
    the links in messages."""
    chosen = settings.mail
    if chosen.mode == "off":
        return Nowhere()
    try:
        sender = parse_sender(chosen.sender)
    except ValueError as error:
        raise SettingsError([f"[mail] sender: {error}"]) from None
    if chosen.mode == "folder":
        return Folder(Path(chosen.folder or Path(settings.database.data_dir) / "mail"), sender)
    if not settings.server.portal_url and not settings.server.public_url:
        raise SettingsError(["[server] portal_url is not set: links in messages would lead nowhere"])
    return Smtp(
        chosen.smtp_host,
        chosen.smtp_port,
        sender,
        security=Security(chosen.smtp_security),
        username=chosen.smtp_username,
        password=chosen.smtp_password,
        seconds=chosen.smtp_seconds,
    )


def open_vault(settings: Settings) -> Vault:
    """With the master key of this installation; the first start makes one, readable by its owner alone."""
    path = Path(settings.secrets.key_file or Path(settings.database.data_dir) / "master.key")
    try:
        return Vault([path.read_text("ascii").strip()])
    except ValueError:
        raise SettingsError([f"[secrets] key_file: {path} does not hold a master key"]) from None
    except FileNotFoundError:
        if settings.secrets.key_file:
            raise SettingsError([f"[secrets] key_file: {path} does not exist"]) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    key = Vault.new_key()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(key + "\n")
    log.info("made the master key %s: keep a copy of it, without it the database's secrets cannot be read", path)
    return Vault([key])


def check_address(settings: Settings) -> None:
    """Raises SettingsError where the gateway could not listen. The gateway itself would tell it as a crash; this is a
    sentence, and comes before anything runs. It never listens: who finds the port open finds an API behind it."""
    host, port = settings.server.host, settings.server.port
    try:
        bind_listener(host, port).close()
    except OSError as error:
        raise SettingsError([f"[server] nothing can listen on {host} port {port}: {error.strerror}"]) from None


def open_proxmox(settings: Settings) -> ProxmoxDriver:
    """Raises SettingsError for what is missing and for certificates that cannot be used."""
    chosen = settings.proxmox
    if not chosen.url:
        raise SettingsError(["[proxmox] url is not set: there is nowhere to put containers"])
    if not chosen.token_id and not chosen.username:
        raise SettingsError(["[proxmox] neither token_id nor username is set: there is nobody to sign in as"])
    auth = (
        TokenAuth(chosen.token_id, chosen.token_secret)
        if chosen.token_id
        else TicketAuth(chosen.username, chosen.password)
    )
    certificate = chosen.pinned_certificate_file or chosen.ca_file
    try:
        pinned = Path(certificate).read_text("ascii") if chosen.pinned_certificate_file else None
        tls = Tls(ca_file=Path(chosen.ca_file) if chosen.ca_file else None, pinned_certificate_pem=pinned)
        return ProxmoxDriver(chosen.url, auth, tls)
    except (OSError, ValueError) as error:
        # OSError is what ssl raises for a malformed certificate, too.
        raise SettingsError([f"[proxmox] no certificate can be read from {certificate}: {error}"]) from None


def fleet_options(settings: Settings) -> Options:
    chosen, polling, limits = settings.containers, settings.polling, settings.provisioning
    return Options(
        zone=chosen.zone,
        vmids={
            ContainerType.GAME: range(chosen.game_vmids[0], chosen.game_vmids[1] + 1),
            ContainerType.DEV: range(chosen.dev_vmids[0], chosen.dev_vmids[1] + 1),
        },
        templates={ContainerType.GAME: chosen.game_templates, ContainerType.DEV: chosen.dev_templates},
        nodes=settings.proxmox.nodes,
        storage=settings.proxmox.storage or None,
        pool=settings.proxmox.pool or None,
        clone_full=settings.proxmox.clone_full,
        net0=f"name=eth0,bridge={settings.proxmox.bridge}",
        address_pool=addresses(chosen.address_pool),
        address_prefix=chosen.address_prefix,
        networks=chosen.networks,
        gateway_address=chosen.gateway_address or None,
        nameserver=chosen.nameserver or None,
        agent_port=chosen.agent_port,
        bootstrap_token=chosen.agent_bootstrap_token,
        concurrent_operations=chosen.concurrent_operations,
        mutations_per_node=settings.proxmox.mutations_per_node,
        watch_seconds=settings.proxmox.watch_seconds,
        list_lag_seconds=settings.proxmox.list_lag_seconds,
        clone_seconds=limits.clone_seconds,
        boot_seconds=limits.boot_seconds,
        agent_seconds=limits.agent_seconds,
        install_seconds=limits.install_seconds,
        restore_seconds=limits.restore_seconds,
        history_lines=settings.console.history_lines,
        input_per_second=settings.console.input_per_second,
        reserved_names=frozenset(name.lower() for name in settings.edge.reserved_names),
        polling=Polling(
            transition_seconds=polling.transition_seconds,
            running_seconds=polling.running_seconds,
            stopped_seconds=polling.stopped_seconds,
            timeout_seconds=polling.timeout_seconds,
            misses=polling.misses,
            slow_seconds=polling.slow_seconds,
            players_seconds=polling.players_seconds,
            tick_seconds=polling.tick_ms / 1000,
        ),
    )


def open_ports(settings: Settings, database: Database, people: AccountServices) -> ForwardedPorts:
    """What was forwarded is read when its task is run."""
    return ForwardedPorts(
        database,
        reserved=frozenset((settings.containers.agent_port, CODE_SERVER_PORT)),
        exists=lambda vmid: people.access.owner_of(vmid) is not None,
    )


def open_house(
    settings: Settings, database: Database, people: AccountServices, fleet: Fleet, ports: ForwardedPorts
) -> House:
    """The way to hosted IDEs and forwarded ports."""
    warn_of_one_origin(settings)
    warn_of_any_address(settings)
    signer, access = people.tokens.signer, people.access
    passes = Passes(
        database,
        signer,
        access,
        seconds=settings.ide.session_seconds,
        vouched_seconds=people.tokens.lifetime_seconds,
    )
    gatekeeper = Gatekeeper(access, passes, people.ide_tokens, ports, signer)
    house = House(
        names=Names(settings.ide.zone),
        gatekeeper=gatekeeper,
        reach=open_reach(settings),
        workshops=fleet,
        activity=fleet.activity,
        trail=people.audit,
        access=access,
        secure=settings.server.public_url.lower().startswith("https://"),
        portal_url=settings.server.portal_url,
    )
    ports.heard.append(house.presence.ports_changed)
    return house


def open_reach(settings: Settings) -> Reach:
    """Which addresses can be containers'."""
    chosen, proxmox = settings.containers, urlsplit(settings.proxmox.url).hostname or ""
    return Reach(
        addresses(chosen.address_pool),
        own=("127.0.0.1", "::1", settings.server.host, proxmox, chosen.gateway_address, chosen.nameserver),
        agent_port=chosen.agent_port,
        networks=chosen.networks,
        machine=Machine(),
    )


def warn_of_one_origin(settings: Settings) -> None:
    """Without a zone, IDEs' pages are of the API's origin. What the Portal keeps in the browser is theirs, too, where
    it is served there: whoever opens somebody else's IDE would give the sign-in away."""
    server = settings.server
    if settings.ide.zone or not server.portal_url or not server.public_url:
        return
    portal, api = (as_browsers_write(url.lower()) for url in (server.portal_url, server.public_url))
    if portal == api:
        log.warning(
            "the Portal and hosted IDEs share the origin %s: set [ide] zone, or an IDE can act as its guest", api
        )


def warn_of_any_address(settings: Settings) -> None:
    """Whoever has root in a container can claim any address there, and Proxmox reports what is claimed."""
    if not settings.containers.address_pool and not settings.containers.networks:
        log.warning(
            "containers get their addresses by DHCP: set [containers] networks, or a customer who claims the address "
            "of another machine can open its port %d and forward others",
            CODE_SERVER_PORT,
        )


def addresses(pool: str) -> tuple[str, ...]:
    """The addresses of "first-last" or of a network's hosts; none for an empty pool."""
    if not pool:
        return ()
    first, dash, last = pool.partition("-")
    if not dash:
        return tuple(str(address) for address in ipaddress.ip_network(pool).hosts())
    start, end = ipaddress.ip_address(first.strip()), ipaddress.ip_address(last.strip())
    return tuple(str(start + offset) for offset in range(int(end) - int(start) + 1))


def version() -> str:
    try:
        return metadata.version("zlh")
    except metadata.PackageNotFoundError:
        return "0.1.0+checkout"
