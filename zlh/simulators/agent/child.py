"""The "game": reads commands from standard input, prints lines like a Minecraft server's, ends when told or alone.

Run as a script it is the real child process of a simulated agent, and imports nothing that costs start-up time; light
agents use `Game` in their own process. The end of standard input ends it, so it never outlives its agent. Once it is
ready, it says a line to whoever connects to its port, and hangs up; to a datagram it answers with that line.
"""

import os
import select
import socket
import sys
import time

STARTED = "Done ("
CRASHED = 1


class Game:
    """What a line means. `exit_code` is None while it runs."""

    def __init__(self) -> None:
        self.players: list[str] = []
        self.exit_code: int | None = None

    def answer(self, line: str) -> list[str]:
        """The lines that a command prints."""
        word, _, rest = line.strip().lstrip("/").partition(" ")
        if word in ("say", "echo"):
            return [f"[Server] {rest}"]
        if word == "list":
            return [f"There are {len(self.players)} of a max of 20 players online: {', '.join(self.players)}"]
        if word == "join" and rest:
            self.players.append(rest)
            return [f"{rest} joined the game"]
        if word == "leave" and rest in self.players:
            self.players.remove(rest)
            return [f"{rest} left the game"]
        if word == "stop":
            self.exit_code = 0
            return ["Stopping the server", "Saving chunks for level 'world'"]
        if word == "crash":
            self.exit_code = CRASHED
            return ["java.lang.NullPointerException: asked to crash", "\tat net.minecraft.server.MinecraftServer.run"]
        if word == "help":
            return ["/say <text>, /list, /join <name>, /leave <name>, /stop, /crash"]
        return [f"Unknown or incomplete command: {line.strip()[:200]}"] if word else []


def stamp(text: str) -> str:
    return time.strftime("[%H:%M:%S] ") + f"[Server thread/INFO]: {text}"


def startup(seconds: float) -> list[str]:
    return [
        "Loading libraries, please wait...",
        'Preparing level "world"',
        f'{STARTED}{seconds:.3f}s)! For help, type "help"',
    ]


def _print(lines: list[str]) -> None:
    for line in lines:
        sys.stdout.write(stamp(line) + "\n")
    sys.stdout.flush()


class Door:
    """Where players knock; nobody can where the address is taken, or `port` is 0."""

    def __init__(self, address: str, port: int) -> None:
        self._place = (address, port)
        self.listener: socket.socket | None = None
        self.mailbox: socket.socket | None = None

    def open(self) -> str:
        """What there is to say about it on the console."""
        address, port = self._place
        if not port:
            return "No port to listen on"
        try:
            self.mailbox = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.mailbox.bind((address, port))
            self.listener = socket.create_server((address, port), backlog=64)
        except OSError as error:
            return f"**** FAILED TO BIND TO PORT! {error.strerror}"
        self.listener.setblocking(False)
        self.mailbox.setblocking(False)
        return f"Listening on {address}:{port}"

    @property
    def sockets(self) -> list[socket.socket]:
        """Where somebody may be waiting."""
        return [one for one in (self.listener, self.mailbox) if self.listener is not None and one is not None]

    def greet(self, game: Game) -> None:
        assert self.listener is not None
        try:
            guest, _ = self.listener.accept()
            with guest:
                guest.setblocking(False)
                guest.send(greeting(game))
        except OSError:
            return

    def reply(self, game: Game) -> None:
        assert self.mailbox is not None
        try:
            _, guest = self.mailbox.recvfrom(2048)
            self.mailbox.sendto(greeting(game), guest)
        except OSError:
            return


def greeting(game: Game) -> bytes:
    return f"A ZLH server, {len(game.players)} of 20 players online\n".encode()


def main(start_seconds: float, chatter_seconds: float, address: str, port: int) -> int:
    """Plays until `stop`, `crash` or the end of standard input; returns the exit code."""
    game, door = Game(), Door(address, port)
    first, second, ready = startup(start_seconds)
    _print([first, second])
    pending = b""
    ready_at = time.monotonic() + start_seconds
    beat_at = ready_at + chatter_seconds
    beats = 0
    while True:
        now = time.monotonic()
        waits: list[int | socket.socket] = [0, *door.sockets]
        readable, _, _ = select.select(waits, [], [], max(0.0, (ready_at if ready else beat_at) - now))
        if door.listener in readable:
            door.greet(game)
        elif door.mailbox in readable:
            door.reply(game)
        elif readable:
            data = os.read(0, 65536)
            if not data:
                return 0
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                _print(game.answer(line.decode(errors="replace")))
                if game.exit_code is not None:
                    return game.exit_code
        elif ready:
            _print([door.open(), ready])
            ready = ""
        else:
            beats += 1
            beat_at += chatter_seconds
            _print([f"Saved the game ({beats})"])


if __name__ == "__main__":
    try:
        sys.exit(main(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(0)
