"""Fixtures that every test may use."""

from tests.memory import keep_files_in_memory
from tests.postgres import postgres_server, postgres_url
from tests.properties import choose_examples
from tests.proxmox import proxmox, proxmox_cluster, proxmox_driver

__all__ = ["postgres_server", "postgres_url", "proxmox", "proxmox_cluster", "proxmox_driver"]

keep_files_in_memory()
choose_examples()
