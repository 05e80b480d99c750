"""A real IDE where a dev container's code-server would be: JupyterLab, on the container's loopback address.

`./dev browser` installs it. It keeps to its own folder, speaks to nobody, and takes whoever comes, as code-server
does behind the proxy.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

UP_SECONDS, END_SECONDS = 90.0, 15.0
# Without it a terminal is drawn on a canvas, in which nothing can be read.
SETTINGS = {
    "terminal-extension/plugin": {"screenReaderMode": True},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


class JupyterLab:
    """`files` is what it shows; its terminals begin there."""

    def __init__(self, folder: Path, address: str, port: int) -> None:
        self.files = folder / "files"
        self.output = folder / "jupyter.out"
        self._folder = folder
        self._address = address
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.files.mkdir(parents=True)
        for name, values in SETTINGS.items():
            file = self._folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns once it listens."""
        with open(self.output, "ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *self._options()],
                env=self._environment(),
                cwd=self.files,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + UP_SECONDS
        while not self._listens():
            assert self._process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """With its terminals and kernels."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self._address, self._port)) == 0

    def _options(self) -> list[str]:
        return [
            "--no-browser",
            "--allow-root",
            f"--ServerApp.ip={self._address}",
            f"--ServerApp.port={self._port}",
            "--ServerApp.port_retries=0",
            f"--ServerApp.root_dir={self.files}",
            # It is called by the name that the browser knows, which is none of its own.
            "--ServerApp.allow_remote_access=True",
            "--IdentityProvider.token=",
            f"--LabApp.user_settings_dir={self._folder / 'settings'}",
            "--LabApp.extension_manager=readonly",
            "--ServerApp.terminado_settings={'shell_command': ['/bin/sh']}",
        ]

    def _environment(self) -> dict[str, str]:
        own = {f"JUPYTER_{name}_DIR": str(self._folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")} | {
            "IPYTHONDIR": str(self._folder / "ipython"),
            "PS1": "$ ",
        }
        return {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")} | own
