"""What an installation chose for its accounts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """`default_plan` is given to new accounts (None: none). Attempts are per account and per client address. `mail`:
    e-mail leaves this installation, so addresses are verified and notices are sent; links lead to `portal_url`."""

    registration: bool = True
    default_plan: str | None = None
    refresh_token_days: int = 30
    attempts_per_account: int = 10
    attempts_per_address: int = 30
    attempts_seconds: float = 60.0
    operators_need_second_factor: bool = False
    mail: bool = False
    portal_url: str = ""
