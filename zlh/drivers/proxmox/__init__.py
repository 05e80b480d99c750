"""Proxmox VE over its HTTP API (PVE 8 and 9): LXC containers on one cluster.

driver    what can be asked of a cluster, a method each
answers   Proxmox's answers as values; checks their shape
wire      one request and its answer, natively on Trio; every exception translated
refusals  Proxmox's words -> our errors, pure
auth      API tokens, and tickets with their CSRF token and renewal
tls       which certificates are believed
"""

from zlh.drivers.proxmox.answers import Cluster, Guest, GuestConfig, GuestStatus, Node, Task, TaskStatus, Upid
from zlh.drivers.proxmox.auth import TicketAuth, TokenAuth
from zlh.drivers.proxmox.driver import ProxmoxDriver
from zlh.drivers.proxmox.tls import Tls

__all__ = [
    "Cluster",
    "Guest",
    "GuestConfig",
    "GuestStatus",
    "Node",
    "ProxmoxDriver",
    "Task",
    "TaskStatus",
    "TicketAuth",
    "Tls",
    "TokenAuth",
    "Upid",
]
