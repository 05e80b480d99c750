"""Every limit of the gateway, with its default and its unit in the name or in its comment."""

from __future__ import annotations

from dataclasses import dataclass, field

from zlh.wire.walker import FrameLimits


@dataclass(frozen=True, slots=True)
class ConsoleLimits:
    """What a console viewer may cost. Sizes in bytes, times in seconds."""

    auth_seconds: float = 5.0
    buffer: int = 256 * 1024  # waiting for a viewer that reads too slowly; beyond it the oldest frames go
    stuck_seconds: float = 30.0  # nothing could be written for so long: closed
    ping_seconds: float = 20.0
    pong_seconds: float = 20.0
    expiry_notice_seconds: float = 60.0
    max_line: int = 4 * 1024  # of one command
    frames: FrameLimits = field(
        default_factory=lambda: FrameLimits(
            bytes_per_second=32 * 1024, bytes_burst=256 * 1024, frames_per_second=20, frames_burst=60
        )
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds, rates per second, the rest are counts."""

    connections: int = 4096
    connections_per_address: int = 512  # trusted proxies are exempt
    backlog: int = 1024
    head_seconds: float = 10.0  # from the first byte (on a new connection: from accepting it) to the whole head
    idle_seconds: float = 75.0  # between two requests of one connection
    body: int = 1024 * 1024  # of a request to the control plane, collected before it is relayed
    body_progress_seconds: float = 10.0  # between two reads of a body
    body_seconds: float = 60.0  # for a whole collected body
    bodies: int = 128 * 1024 * 1024  # of all bodies that are being collected, together
    write_seconds: float = 30.0  # a peer that reads nothing for so long is closed
    linger_seconds: float = 2.0  # to let a refused client read why, while the rest of its request is thrown away
    connect_seconds: float = 5.0
    answer_seconds: float = 120.0  # until the upstream's response head; 0.0 for no limit
    stall_seconds: float = 60.0  # an agent that sends nothing for so long in the middle of a download
    transfers: int = 32  # with one container at once
    transfer_seconds: float = 24 * 3600.0  # of one that outlives the token that it was begun with
    upstream_connections: int = 1024  # to one destination at once
    upstream_idle: int = 64  # kept open for one destination
    upstream_idle_seconds: float = 30.0
    close_seconds: float = 1.0  # to answer our close frame
    websocket: FrameLimits = field(default_factory=FrameLimits)
    console: ConsoleLimits = field(default_factory=ConsoleLimits)
