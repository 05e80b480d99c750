"""What requests may carry. Strict: "5" is no number. Unknown fields are ignored, all other problems are listed."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from zlh.accounts import LONGEST_PASSWORD, SHORTEST_PASSWORD
from zlh.model.containers import ContainerType

USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,30}[A-Za-z0-9]")
EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


def _printable(text: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text):
        raise ValueError("control characters are not allowed")
    return unicodedata.normalize("NFC", text)


def _username(text: str) -> str:
    if not USERNAME.fullmatch(text):
        raise ValueError(
            "3 to 32 letters, digits, dots, hyphens and underscores, with a letter or digit at both ends"
        )
    return text


def _email(text: str) -> str:
    if not EMAIL.fullmatch(text):
        raise ValueError("an e-mail address is expected")
    return text


def _ports(ports: list[int]) -> list[int]:
    if len(set(ports)) != len(ports):
        raise ValueError("a port is named twice")
    return ports


Text = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_printable)]
Name = Annotated[Text, Field(max_length=64)]
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
    email: Annotated[Text, Field(max_length=254), AfterValidator(_email)]
    username: Annotated[Text, Field(max_length=32), AfterValidator(_username)]
    password: Annotated[str, StringConstraints(min_length=SHORTEST_PASSWORD, max_length=LONGEST_PASSWORD)]
    first_name: Name = ""
    last_name: Name = ""
    display_name: Name = ""


class Login(Body):
    identifier: Annotated[Text, Field(min_length=1, max_length=320)]
    password: Annotated[str, StringConstraints(min_length=1, max_length=1024)]


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
