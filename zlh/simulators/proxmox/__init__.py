"""A Proxmox VE cluster in a process of its own, for the demo and the tests.

    __main__  the program; its options are in `python -m zlh.simulators.proxmox --help`
    host      fakepve with nodes of a size, storage that all of them share, and durations
    faults    what can go wrong, by name
    control   the HTTP interface that is not Proxmox's: containers, faults, requests
    state     what is kept in a file, so that a second run finds the same containers
    client    starts the process and causes faults, from Trio

fakepve is under the AGPL: it is imported by this process alone, never by the product. `client` does not import it.
"""
