"""What requests may carry. Strict: "5" is no number. Unknown fields are ignored, all other problems are listed."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from zlh.accounts import (
    LONGEST_EMAIL,
    LONGEST_PASSWORD,
    LONGEST_USERNAME,
    SHORTEST_PASSWORD,
    email_problem,
    username_problem,
)
from zlh.model.containers import ContainerType

# They turn the order of what follows around: a name could show as another one, also in a log.
TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """In NFC. Raises ValueError."""
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in TURNING for character in text):
        raise ValueError("control characters are not allowed")
    return unicodedata.normalize("NFC", text)


def _without(problem: Callable[[str], str | None]) -> AfterValidator:
    def check(text: str) -> str:
        found = problem(text)
        if found is not None:
            raise ValueError(found)
        return text

    return AfterValidator(check)


def _ports(ports: list[int]) -> list[int]:
    if len(set(ports)) != len(ports):
        raise ValueError("a port is named twice")
    return ports


Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=64), AfterValidator(printable)]
Email = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=LONGEST_EMAIL),
    AfterValidator(printable),
    _without(email_problem),
]
Username = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=LONGEST_USERNAME), _without(username_problem)
]
Reason = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=8, max_length=500), AfterValidator(printable)
]
Password = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
"""One that somebody has, not one that is chosen: what is wrong with it is only that it does not match."""
TotpCode = Annotated[str, StringConstraints(max_length=64), AfterValidator(printable)]
Label = Annotated[str, StringConstraints(max_length=64, pattern=r"^([A-Za-z0-9][A-Za-z0-9._+-]*)?$")]
World = Annotated[str, StringConstraints(max_length=64, pattern=r"^([A-Za-z0-9_][A-Za-z0-9 ._-]*)?$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Mebibytes = Annotated[int, Field(ge=128, le=4 * 1024 * 1024)]
Cores = Annotated[int, Field(ge=1, le=512)]
Gibibytes = Annotated[int, Field(ge=1, le=65536)]


class Body(BaseModel):
    """The base of every request body: a JSON object with camelCase names."""

    model_config = ConfigDict(
        strict=True,
        extra="ignore",
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=False,
        validate_by_alias=True,
    )


class Query(BaseModel):
    """The base of every query string; values are text there, so "5" is a number."""

    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel)


class Register(Body):
    email: Email
    username: Username
    password: Annotated[str, StringConstraints(min_length=SHORTEST_PASSWORD, max_length=LONGEST_PASSWORD)]
    first_name: Name = ""
    last_name: Name = ""
    display_name: Name = ""


class Login(Body):
    """`totp` is a code of the second factor's app, or a recovery code; an empty one is none."""

    identifier: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=320), AfterValidator(printable)
    ]
    password: Password
    totp: TotpCode | None = None


class Refresh(Body):
    refresh_token: Annotated[str, StringConstraints(min_length=1, max_length=512)]


class Profile(Body):
    first_name: Name | None = None
    last_name: Name | None = None
    display_name: Name | None = None


class CreateInstance(Body):
    """`game`, `variant` and `version` for a game container, `runtime` and `version` for a dev container. Sizes that
    are not given come from the plan. `customerId` counts only when an operator sends it."""

    ctype: Annotated[ContainerType, Field(validation_alias=AliasChoices("ctype", "containerType", "container_type"))]
    game: Label | None = None
    variant: Label | None = None
    version: Label | None = None
    world: World | None = None
    runtime: Label | None = None
    memory_mib: Annotated[Mebibytes | None, Field(alias="memoryMiB")] = None
    cpu_cores: Cores | None = None
    disk_gib: Annotated[Gibibytes | None, Field(alias="diskGiB")] = None
    name: Name | None = None
    ports: Annotated[list[Port], Field(max_length=16), AfterValidator(_ports)] | None = None
    customer_id: Any = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed = ("game", "variant", "version") if self.ctype is ContainerType.GAME else ("runtime", "version")
        missing = [name for name in needed if not getattr(self, name)]
        if missing:
            raise ValueError(f"a {self.ctype} container needs {', '.join(missing)}")
        return self


class Upgrade(Body):
    """New sizes: memory in MiB, disk in GiB, CPU cores; what is not given stays as it is."""

    memory: Mebibytes | None = None
    disk: Gibibytes | None = None
    cpu: Cores | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.memory is None and self.disk is None and self.cpu is None:
            raise ValueError("at least one of memory, disk and cpu is needed")
        return self


class Sweep(Body):
    dry_run: bool = True


class TeardownQuery(Query):
    """`force` stops a running container first; `wait` is how many seconds to wait for the end."""

    force: bool = False
    wait: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 0


class OperationsQuery(Query):
    """`before` is the id of the last operation of the page before."""

    vmid: Annotated[int | None, Field(ge=1, le=999_999_999)] = None
    before: Annotated[str | None, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
