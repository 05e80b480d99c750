"""Uploads by form: the files of one multipart body (RFC 7578), each passed on to the agent while it arrives."""

from __future__ import annotations

import orjson
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Event, File, MultipartDecoder, NeedData

from zlh.gateway.client import BodyReader
from zlh.gateway.pipes import Pipe
from zlh.gateway.refusals import Refusal
from zlh.gateway.transfers.agent import Agent
from zlh.gateway.transfers.room import Room
from zlh.gateway.transfers.transfer import Transfer
from zlh.gateway.transfers.uploads import Metered, write
from zlh.model.agent_calls import AgentPlace
from zlh.model.errors import InvalidError
from zlh.model.paths import clean_path

MOST_PARTS = 200
LONGEST_BOUNDARY = 70
_BUFFER = 512 * 1024
"""What the parser may hold: a read, and a part's head that is not whole yet."""


class Form:
    """Reads the parts of a body, one after the other. Raises Refusal 400, 413, and what reading the body does."""

    def __init__(self, source: BodyReader, boundary: bytes) -> None:
        self._source = source
        self._decoder = MultipartDecoder(boundary, _BUFFER, max_parts=MOST_PARTS)

    async def next_file(self) -> FilePart | None:
        """The next part that is a file, once the one before was read; None after the last."""
        while True:
            event = await self.event()
            if isinstance(event, Epilogue):
                return None
            if isinstance(event, File):
                return FilePart(self, event.filename)

    async def event(self) -> Event:
        while True:
            try:
                event = self._decoder.next_event()
            except ValueError:
                raise Refusal(400, "the form is malformed", code="invalid") from None
            except RequestEntityTooLarge:
                raise Refusal(413, f"a form has at most {MOST_PARTS} parts with short heads") from None
            if not isinstance(event, NeedData):
                return event
            self._feed(await self._source.read())

    def _feed(self, data: bytes) -> None:
        try:
            self._decoder.receive_data(data or None)
        except RequestEntityTooLarge:
            raise Refusal(413, "a part of the form has too long a head") from None


class FilePart:
    """One file of a form, as a body; nobody knows its length before its end."""

    length = None
    pipes = False

    def __init__(self, form: Form, name: str) -> None:
        self._form = form
        self.name = name
        self.done = False

    async def read(self) -> bytes:
        while not self.done:
            event = await self._form.event()
            assert isinstance(event, Data), event
            self.done = not event.more_data
            if event.data:
                return event.data
        return b""

    async def fill(self, pipe: Pipe) -> int:
        raise AssertionError("the parts of a form are found by reading them")

    async def skip(self) -> None:
        while await self.read():
            pass


async def upload_form(transfer: Transfer, agent: Agent, place: AgentPlace, folder: str, room: Room) -> bool:
    """Writes every file of the form into `folder`; whether the connection can be used again.

    A refusal says in its details which files are in their places already.
    """
    source = BodyReader(transfer.arrival.client, transfer.head, None)
    form = Form(source, _boundary(transfer))
    files = []
    try:
        while (part := await form.next_file()) is not None:
            if not part.name:
                # What browsers send for a field in which no file was chosen.
                await part.skip()
                continue
            transfer.subject = path = _place_of(folder, part.name)
            body = Metered(part, room)
            written = await write(agent, place, path, body, [])
            transfer.written.append((path, body.passed))
            files.append({"path": path, "size": body.passed, "created": written.status == 201})
            transfer.subject = ""
    except Refusal as refusal:
        refusal.details = {**_as_object(refusal.details), "written": [path for path, _ in transfer.written]}
        raise
    if not files:
        raise Refusal(400, "the form has no file", code="invalid")
    return await transfer.answer(201, [(b"content-type", b"application/json")], orjson.dumps({"files": files}))


def _as_object(details: object) -> dict[str, object]:
    if details is None:
        return {}
    return details if isinstance(details, dict) else {"problems": details}


def _boundary(transfer: Transfer) -> bytes:
    kind, options = parse_options_header((transfer.head.get(b"content-type") or b"").decode("latin1"))
    boundary = options.get("boundary", "")
    if kind != "multipart/form-data":
        raise Refusal(415, "send multipart/form-data", code="unsupported_media_type")
    if not 0 < len(boundary) <= LONGEST_BOUNDARY or not boundary.isascii():
        raise Refusal(400, "the form has no boundary", code="invalid")
    return boundary.encode("ascii")


def _place_of(folder: str, name: str) -> str:
    """Raises Refusal 400: a form puts files into one folder, whatever their names are."""
    try:
        if "/" in name or name in (".", ".."):
            raise InvalidError.of(("filename", "is not the name of a file"))
        return clean_path(f"{folder}/{name}" if folder else name, field="filename")
    except InvalidError as error:
        raise Refusal.of(error) from None
