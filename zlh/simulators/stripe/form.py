"""Bodies and queries as Stripe takes them: `items[0][price]=price_x&metadata[user]=7&expand[]=customer`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

from zlh.simulators.stripe.errors import Wrong, invalid

_INDEX = re.compile(r"\+?[0-9]{1,6}")
_PART = re.compile(r"\[([^\]]*)\]")
DIGITS = re.compile(r"-?[0-9]{1,10}")


def decode(text: str) -> dict[str, Any]:
    """Nested dicts, lists and texts. A list's elements come in the order of their indexes."""
    root: dict[str, Any] = {}
    for number, (key, value) in enumerate(parse_qsl(text, keep_blank_values=True)):
        first, bracket, _ = key.partition("[")
        # An index of its own for each `name[]`.
        parts = [first, *((part or f"+{number}") for part in _PART.findall(key))] if bracket else [first]
        place = root
        for part in parts[:-1]:
            deeper = place.setdefault(part, {})
            if not isinstance(deeper, dict):
                raise invalid(first, f"Invalid object: {first}")
            place = deeper
        place[parts[-1]] = value
    return {name: _listed(value) for name, value in root.items()}


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value and all(_INDEX.fullmatch(key) for key in value):
        return [_listed(value[key]) for key in sorted(value, key=int)]
    return {key: _listed(inner) for key, inner in value.items()}


class Wish:
    """The parameters of one request. Reading raises Wrong(400) in Stripe's words; `finish` does where something
    was sent that nobody read: Stripe refuses what it does not know."""

    def __init__(self, values: Mapping[str, Any], inside: str = "") -> None:
        self._values = values
        self._inside = inside
        self._read: set[str] = set()
        self._deeper: list[Wish] = []

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def raw(self, name: str) -> Any:
        """As it was sent; not a reading."""
        return self._values.get(name)

    def param(self, name: str) -> str:
        return f"{self._inside}[{name}]" if self._inside else name

    def text(self, name: str) -> str | None:
        self._read.add(name)
        value = self._values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise invalid(self.param(name), f"Invalid string: {value}")

    def needed(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise invalid(self.param(name), f"Missing required param: {self.param(name)}.", "parameter_missing")
        if value == "":
            words = f"You passed an empty string for '{self.param(name)}'. We assume empty values are an attempt to "
            raise invalid(self.param(name), words + "unset a parameter; however it cannot be unset.", _EMPTY)
        return value

    def choice(self, name: str, *choices: str, default: str) -> str:
        value = self.text(name)
        if value is None:
            return default
        if value not in choices:
            raise invalid(self.param(name), f"Invalid {self.param(name)}: must be one of {', '.join(choices)}")
        return value

    def integer(self, name: str) -> int | None:
        """Of ten digits at most."""
        value = self.text(name)
        if value is None:
            return None
        if not DIGITS.fullmatch(value):
            raise invalid(self.param(name), f"Invalid integer: {value}", "parameter_invalid_integer")
        return int(value)

    def boolean(self, name: str) -> bool | None:
        value = self.text(name)
        if value is None:
            return None
        if value not in ("true", "false"):
            raise invalid(self.param(name), f"Invalid boolean: {value}")
        return value == "true"

    def inside(self, name: str) -> Wish:
        """What is in a nested object; empty where it was not sent."""
        self._read.add(name)
        value = self._values.get(name, {})
        if not isinstance(value, dict):
            raise invalid(self.param(name), "Invalid object")
        return self._deepen(Wish(value, self.param(name)))

    def each(self, name: str) -> list[Wish]:
        """The objects of a list."""
        self._read.add(name)
        values = self._values.get(name, [])
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            raise invalid(self.param(name), "Invalid array")
        return [self._deepen(Wish(value, f"{self.param(name)}[{i}]")) for i, value in enumerate(values)]

    def texts(self, name: str) -> list[str]:
        self._read.add(name)
        values = self._values.get(name, [])
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise invalid(self.param(name), "Invalid array")
        return values

    def metadata(self, old: Mapping[str, str]) -> dict[str, str]:
        """What becomes of `old`: an empty value removes its key, an empty `metadata` removes all."""
        self._read.add("metadata")
        value = self._values.get("metadata", {})
        if value == "":
            return {}
        if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
            raise invalid(self.param("metadata"), "Invalid object")
        for key, one in value.items():
            if len(key) > 40 or len(one) > 500:
                raise invalid(self.param(f"metadata[{key}]"), "Metadata keys have 40 characters, values 500 at most")
        return {key: one for key, one in {**old, **value}.items() if one != ""}

    def ignore(self, *names: str) -> None:
        """Real parameters that change nothing here."""
        self._read.update(names)

    def finish(self) -> None:
        for name in self._unread():
            raise Wrong(400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name)

    def _deepen(self, wish: Wish) -> Wish:
        self._deeper.append(wish)
        return wish

    def _unread(self) -> Iterator[str]:
        for name in self._values:
            if name not in self._read:
                yield self.param(name)
        for wish in self._deeper:
            yield from wish._unread()


_EMPTY = "parameter_invalid_empty"
