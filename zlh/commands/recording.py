"""What a command of the machine is in the audit record: nobody signed in, but the machine knows its user."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from datetime import UTC, datetime

from zlh.model.audit import Act, Fact


def command_act(command: str, action: str, *, subject_id: int | None = None, facts: Mapping[str, Fact] = {}) -> Act:
    """`command` is how it was given ("zlh user"), `facts` are by the names of `zlh.model.audit.FACTS`."""
    return Act(
        at=datetime.now(UTC),
        action=action,
        credential="cli",
        subject_id=subject_id,
        agent=f"{command}, by {_login()}",
        details={name: fact for name, fact in facts.items() if fact != ""},
    )


def _login() -> str:
    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
