"""The settings as frozen dataclasses: one per section, a unit in every name, config/zlh.toml shows the defaults."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from zlh.settings.values import key

MOST_SECONDS = 86400


def _url(value: str) -> str | None:
    if not value:
        return None
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "an http:// or https:// address expected"
    return None


def _database_url(value: str) -> str | None:
    if value and urlsplit(value).scheme not in ("postgres", "postgresql", "postgresql+psycopg"):
        return "a postgresql:// address expected"
    return None


def _origins(values: tuple[str, ...]) -> str | None:
    for value in values:
        parts = urlsplit(value)
        bare = parts.scheme in ("http", "https") and parts.netloc and value == f"{parts.scheme}://{parts.netloc}"
        if value != "loopback" and not (bare and _can_be_sent(value)):
            return f"{value!r} is neither an origin such as https://portal.example nor the word loopback"
    return None


def _can_be_sent(origin: str) -> bool:
    """Whether a browser could name it: a host that has an ASCII form, a port that is a number."""
    try:
        parts = urlsplit(origin)
        return parts.port != 0 and bool((parts.hostname or "").encode("idna"))
    except ValueError:
        return False


def _networks(values: tuple[str, ...]) -> str | None:
    for value in values:
        try:
            ipaddress.ip_network(value, strict=False)
        except ValueError:
            return f"{value!r} is not an address or network such as 10.0.0.0/8"
    return None


def _vmids(value: tuple[int, int]) -> str | None:
    return None if value[0] <= value[1] else "the first number is larger than the last"


def _pool(value: str) -> str | None:
    """A network, or "first-last"; empty means DHCP."""
    first, dash, last = value.partition("-")
    try:
        if dash:
            low, high = ipaddress.ip_address(first.strip()), ipaddress.ip_address(last.strip())
            return None if low.version == high.version and int(low) <= int(high) else "the range is empty"
        if value:
            ipaddress.ip_network(value)
    except ValueError as error:
        return f'a network (10.0.0.0/24) or "first-last" expected: {error}'
    return None


def _address(value: str) -> str | None:
    try:
        if value:
            ipaddress.ip_address(value)
    except ValueError:
        return "an IP address expected"
    return None


@dataclass(frozen=True, slots=True)
class Server:
    host: str = "127.0.0.1"
    port: int = key(8080, minimum=0, maximum=65535)
    public_url: str = key("", check=_url)
    portal_url: str = key("", check=_url)
    allowed_origins: tuple[str, ...] = key((), check=_origins)
    trusted_proxies: tuple[str, ...] = key((), check=_networks)
    shutdown_seconds: float = key(10.0, minimum=0.1, maximum=600)


@dataclass(frozen=True, slots=True)
class Database:
    url: str = key("", secret=True, check=_database_url)
    url_file: str = ""
    data_dir: str = ".zlh"
    pool_size: int = key(8, minimum=2, maximum=100)


@dataclass(frozen=True, slots=True)
class Accounts:
    registration: bool = True
    default_plan: str = ""
    issuer: str = "zlh"
    access_token_seconds: int = key(600, minimum=10, maximum=MOST_SECONDS)
    refresh_token_days: int = key(30, minimum=1, maximum=365)
    argon2_memory_mib: int = key(64, minimum=1, maximum=1024)
    argon2_passes: int = key(3, minimum=1, maximum=20)
    argon2_lanes: int = key(1, minimum=1, maximum=16)
    hashing_threads: int = key(2, minimum=1, maximum=32)
    attempts_per_account: int = key(10, minimum=1, maximum=10_000)
    attempts_per_address: int = key(30, minimum=1, maximum=100_000)
    attempts_seconds: float = key(60.0, minimum=1, maximum=MOST_SECONDS)
    operators_need_second_factor: bool = False
    signing_key_days: int = key(90, minimum=1, maximum=3650)
    signing_key_publish_seconds: int = key(3600, minimum=0, maximum=MOST_SECONDS)
    audit_days: int = key(365, minimum=1, maximum=36500)


@dataclass(frozen=True, slots=True)
class Mail:
    mode: str = key("off", choices=("off", "folder", "smtp"))
    sender: str = "ZLH <no-reply@zlh.example>"
    folder: str = ""
    smtp_host: str = "localhost"
    smtp_port: int = key(587, minimum=1, maximum=65535)
    smtp_security: str = key("starttls", choices=("starttls", "tls", "none"))
    smtp_username: str = ""
    smtp_password: str = key("", secret=True)
    smtp_password_file: str = ""
    smtp_seconds: float = key(30.0, minimum=1, maximum=600)


@dataclass(frozen=True, slots=True)
class Secrets:
    key_file: str = ""


@dataclass(frozen=True, slots=True)
class Proxmox:
    url: str = key("", check=_url)
    token_id: str = ""
    token_secret: str = key("", secret=True)
    token_secret_file: str = ""
    username: str = ""
    password: str = key("", secret=True)
    password_file: str = ""
    ca_file: str = ""
    pinned_certificate_file: str = ""
    nodes: tuple[str, ...] = ()
    storage: str = "local-lvm"
    pool: str = ""
    bridge: str = "vmbr0"
    clone_full: bool = False
    watch_seconds: float = key(5.0, minimum=0.1, maximum=300)
    list_lag_seconds: float = key(12.0, minimum=0, maximum=300)
    mutations_per_node: int = key(4, minimum=1, maximum=64)


@dataclass(frozen=True, slots=True)
class Containers:
    zone: str = "zlh.example"
    game_vmids: tuple[int, int] = key((5000, 5999), minimum=100, maximum=999_999_999, check=_vmids)
    dev_vmids: tuple[int, int] = key((6000, 6999), minimum=100, maximum=999_999_999, check=_vmids)
    game_templates: tuple[int, ...] = key((9000,), minimum=100, maximum=999_999_999)
    dev_templates: tuple[int, ...] = key((9001,), minimum=100, maximum=999_999_999)
    address_pool: str = key("", check=_pool)
    address_prefix: int = key(24, minimum=1, maximum=128)
    networks: tuple[str, ...] = key((), check=_networks)
    gateway_address: str = key("", check=_address)
    nameserver: str = key("", check=_address)
    agent_port: int = key(18888, minimum=1, maximum=65535)
    agent_bootstrap_token: str = key("", secret=True)
    agent_bootstrap_token_file: str = ""
    concurrent_operations: int = key(10, minimum=1, maximum=1000)


def _zone(value: str) -> str | None:
    """The end of host names, empty for none."""
    labels = re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*", value)
    return None if not value or labels else "the end of a host name, such as ide.example, expected"


@dataclass(frozen=True, slots=True)
class Ide:
    zone: str = key("", check=_zone)
    session_seconds: int = key(43200, minimum=60, maximum=30 * MOST_SECONDS)


def _addresses(values: tuple[str, ...]) -> str | None:
    for value in values:
        if problem := _address(value):
            return f"{value!r}: {problem}"
    return None


def _installation(value: str) -> str | None:
    plain = re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", value)
    return None if plain else "up to 40 lower-case letters, digits and hyphens expected"


def _ports(value: str) -> str | None:
    first, _, last = value.partition("-")
    if not value:
        return None
    if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
        return 'two port numbers expected, such as "30000-30999"'
    return None if 0 < int(first) <= int(last) < 65536 else "the range is empty or not one of ports"


def _entry_points(value: tuple[str, ...]) -> str | None:
    # Without any Traefik takes all that it has, those of games too.
    return None if value and all(value) else "at least one name expected"


def _server(value: str) -> str | None:
    """An IP address, with or without a port: 10.0.0.2, 10.0.0.2:5353, [::1]:5353."""
    if not value:
        return None
    parts = urlsplit(f"//{value}")
    return None if parts.hostname and _address(parts.hostname) is None and parts.port != 0 else "an address expected"


@dataclass(frozen=True, slots=True)
class Edge:
    installation: str = key("zlh", check=_installation)
    beat_seconds: float = key(300.0, minimum=1, maximum=MOST_SECONDS)
    resolver: str = key("", check=_server)
    reserved_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Technitium:
    url: str = key("", check=_url)
    token: str = key("", secret=True)
    token_file: str = ""
    zone: str = key("", check=_zone)
    game_addresses: tuple[str, ...] = key((), check=_addresses)
    minecraft_addresses: tuple[str, ...] = key((), check=_addresses)
    ide_addresses: tuple[str, ...] = key((), check=_addresses)


@dataclass(frozen=True, slots=True)
class Cloudflare:
    url: str = key("https://api.cloudflare.com/client/v4", check=_url)
    token: str = key("", secret=True)
    token_file: str = ""
    zone: str = key("", check=_zone)
    game_addresses: tuple[str, ...] = key((), check=_addresses)
    minecraft_addresses: tuple[str, ...] = key((), check=_addresses)
    ide_addresses: tuple[str, ...] = key((), check=_addresses)


@dataclass(frozen=True, slots=True)
class Rfc2136:
    server: str = key("", check=_server)
    key_name: str = ""
    key_secret: str = key("", secret=True)
    key_secret_file: str = ""
    key_algorithm: str = key("hmac-sha256", choices=("hmac-sha256", "hmac-sha384", "hmac-sha512"))
    zone: str = key("", check=_zone)
    game_addresses: tuple[str, ...] = key((), check=_addresses)
    minecraft_addresses: tuple[str, ...] = key((), check=_addresses)
    ide_addresses: tuple[str, ...] = key((), check=_addresses)


@dataclass(frozen=True, slots=True)
class Velocity:
    url: str = key("", check=_url)
    secret: str = key("", secret=True)
    secret_file: str = ""
    port: int = key(25565, minimum=1, maximum=65535)


@dataclass(frozen=True, slots=True)
class Traefik:
    token: str = key("", secret=True)
    token_file: str = ""
    poll_seconds: float = key(5.0, minimum=0.1, maximum=300)
    settle_seconds: float = key(2.5, minimum=0.1, maximum=60)
    tcp_ports: str = key("", check=_ports)
    udp_ports: str = key("", check=_ports)
    http_entry_points: tuple[str, ...] = key(("websecure",), check=_entry_points)
    cert_resolver: str = ""
    gateway_url: str = key("", check=_url)


@dataclass(frozen=True, slots=True)
class Prometheus:
    token: str = key("", secret=True)
    token_file: str = ""
    node_exporter_port: int = key(9100, minimum=1, maximum=65535)
    agent_path: str = "/metrics"


@dataclass(frozen=True, slots=True)
class Stripe:
    url: str = key("https://api.stripe.com", check=_url)
    secret_key: str = key("", secret=True)
    secret_key_file: str = ""
    webhook_secret: str = key("", secret=True)
    webhook_secret_file: str = ""
    success_url: str = key("", check=_url)
    cancel_url: str = key("", check=_url)
    return_url: str = key("", check=_url)


@dataclass(frozen=True, slots=True)
class Provisioning:
    clone_seconds: float = key(600.0, minimum=1, maximum=MOST_SECONDS)
    boot_seconds: float = key(180.0, minimum=1, maximum=MOST_SECONDS)
    agent_seconds: float = key(180.0, minimum=1, maximum=MOST_SECONDS)
    install_seconds: float = key(1800.0, minimum=1, maximum=MOST_SECONDS)
    restore_seconds: float = key(3600.0, minimum=1, maximum=MOST_SECONDS)


@dataclass(frozen=True, slots=True)
class Polling:
    transition_seconds: float = key(1.0, minimum=0.05, maximum=60)
    running_seconds: float = key(5.0, minimum=0.05, maximum=300)
    stopped_seconds: float = key(30.0, minimum=0.05, maximum=3600)
    timeout_seconds: float = key(2.0, minimum=0.05, maximum=60)
    misses: int = key(3, minimum=1, maximum=100)
    slow_seconds: float = key(60.0, minimum=0.5, maximum=3600)
    players_seconds: float = key(15.0, minimum=0.5, maximum=3600)
    tick_ms: int = key(50, minimum=1, maximum=1000)


@dataclass(frozen=True, slots=True)
class Console:
    history_lines: int = key(1000, minimum=0, maximum=100_000)
    viewer_buffer_kib: int = key(256, minimum=16, maximum=65_536)
    input_per_second: float = key(10.0, minimum=0.1, maximum=10_000)


@dataclass(frozen=True, slots=True)
class Catalog:
    url: str = key("", check=_url)
    refresh_seconds: float = key(300.0, minimum=1, maximum=MOST_SECONDS)


@dataclass(frozen=True, slots=True)
class Log:
    level: str = key("info", choices=("debug", "info", "warning", "error"))
    json: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """Relative paths are relative to the working directory. Where a secret was named by its `_file`, it was read."""

    server: Server = field(default_factory=Server)
    database: Database = field(default_factory=Database)
    accounts: Accounts = field(default_factory=Accounts)
    mail: Mail = field(default_factory=Mail)
    secrets: Secrets = field(default_factory=Secrets)
    proxmox: Proxmox = field(default_factory=Proxmox)
    containers: Containers = field(default_factory=Containers)
    ide: Ide = field(default_factory=Ide)
    edge: Edge = field(default_factory=Edge)
    technitium: Technitium = field(default_factory=Technitium)
    cloudflare: Cloudflare = field(default_factory=Cloudflare)
    stripe: Stripe = field(default_factory=Stripe)
    rfc2136: Rfc2136 = field(default_factory=Rfc2136)
    velocity: Velocity = field(default_factory=Velocity)
    traefik: Traefik = field(default_factory=Traefik)
    prometheus: Prometheus = field(default_factory=Prometheus)
    provisioning: Provisioning = field(default_factory=Provisioning)
    polling: Polling = field(default_factory=Polling)
    console: Console = field(default_factory=Console)
    catalog: Catalog = field(default_factory=Catalog)
    log: Log = field(default_factory=Log)
