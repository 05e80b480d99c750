"""The demo's PostgreSQL as a process of its own, so that it is stopped however the demo ends.

    python -m zlh.demo.database DATA-DIR

prints {"url": "postgresql://..."} when it is up, and stops the server on SIGTERM.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import trio

from zlh.store.embedded import open_embedded

# A demo's data may be lost when the machine loses power; it survives the death of every process.
OPTIONS = {"fsync": "off", "full_page_writes": "off"}


async def keep(data_dir: Path) -> None:
    # The receiver comes first: a signal while the server starts must not leave it behind.
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_embedded(data_dir, options=OPTIONS) as url:
            sys.stdout.write(json.dumps({"url": url}) + "\n")
            sys.stdout.flush()
            async for _ in signals:
                return


if __name__ == "__main__":
    trio.run(keep, Path(sys.argv[1]))
