"""The "game": reads commands from standard input, prints lines like a Minecraft server's, ends when told or alone.

Run as a script it is the real child process of a simulated agent, and imports nothing that costs start-up time; light
agents use `Game` in their own process. The end of standard input ends it, so it never outlives its agent.
"""

import os
import select
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


def main(start_seconds: float, chatter_seconds: float) -> int:
    """Plays until `stop`, `crash` or the end of standard input; returns the exit code."""
    game = Game()
    first, second, ready = startup(start_seconds)
    _print([first, second])
    pending = b""
    ready_at = time.monotonic() + start_seconds
    beat_at = ready_at + chatter_seconds
    beats = 0
    while True:
        now = time.monotonic()
        readable, _, _ = select.select([0], [], [], max(0.0, (ready_at if ready else beat_at) - now))
        if readable:
            data = os.read(0, 65536)
            if not data:
                return 0
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                _print(game.answer(line.decode(errors="replace")))
                if game.exit_code is not None:
                    return game.exit_code
        elif ready:
            _print([ready])
            ready = ""
        else:
            beats += 1
            beat_at += chatter_seconds
            _print([f"Saved the game ({beats})"])


if __name__ == "__main__":
    try:
        sys.exit(main(float(sys.argv[1]), float(sys.argv[2])))
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(0)
