"""`zlh billing`: whether money and machines agree, asked of the API that runs."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import Any

from zlh.commands.asking import add_asking, ask, print_json
from zlh.commands.parsing import Commands
from zlh.model.errors import InvalidError
from zlh.settings import Settings

INVARIANTS = "/api/operators/billing/invariants"
RECONCILE = "/api/billing/reconcile"


def add(commands: Commands) -> None:
    billing = commands.add_parser("billing", help="plans and payments").add_subparsers(
        required=True, metavar="command"
    )
    check = add_asking(billing, "check", "whether money and machines agree; exit status 1 where they do not")
    check.set_defaults(command=_check)
    reconcile = add_asking(billing, "reconcile", "compare everything with Stripe, and repair what can be")
    reconcile.add_argument("--dry-run", action="store_true", help="only tell what would be repaired")
    reconcile.set_defaults(command=_reconcile)
    give = add_asking(billing, "give", "give an account a plan without payment, or other limits")
    give.add_argument("account", type=int, help="the account's id")
    give.add_argument("plan", help='an entry of plans.toml; "none" takes back what was given')
    give.add_argument("--reason", required=True, help="for the audit record, eight characters at least")
    give.add_argument("--until", type=_moment, help="when that ends, such as 2027-01-31T00:00:00+00:00")
    give.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="a limit of this account alone: games, devs, memoryMib, cpuCores, diskGib, backups, schedules",
    )
    give.set_defaults(command=_give)


async def _check(options: argparse.Namespace, settings: Settings) -> int:
    answer = await ask(options, settings, "GET", INVARIANTS)
    status = 0 if answer["green"] else 1
    if options.json:
        print_json(answer)
        return status
    print(f"compared with Stripe: {answer['comparedAt'] or 'never'}")
    _show(answer["findings"], answer["findingsCount"])
    if answer["proposals"]:
        print("for a person to decide:")
        _show(answer["proposals"], len(answer["proposals"]))
    if not status:
        print("money and machines agree")
    return status


async def _reconcile(options: argparse.Namespace, settings: Settings) -> int:
    answer = await ask(options, settings, "POST", RECONCILE, {"dryRun": options.dry_run})
    if options.json:
        return print_json(answer)
    _show(answer["findings"], answer["findingsCount"])
    if answer["error"]:
        print(f"Stripe could not be asked: {answer['error']}")
        return 1
    if not answer["findingsCount"]:
        print("nothing differs")
    return 0


async def _give(options: argparse.Namespace, settings: Settings) -> int:
    wish = {
        "plan": None if options.plan == "none" else options.plan,
        "until": options.until,
        "exceptions": dict(map(_limit, options.limit)),
        "reason": options.reason,
    }
    answer = await ask(options, settings, "PUT", f"/api/operators/accounts/{options.account}/plan", wish)
    if options.json:
        return print_json(answer)
    account = answer["account"]
    print(f"account {account['id']} ({account['username']}) has the plan {account['plan'] or 'none'}")
    return 0


def _show(findings: list[dict[str, Any]], count: int) -> None:
    for finding in findings:
        about = [
            f"{word} {finding[name]}"
            for word, name in (("account", "accountId"), ("container", "vmid"), ("customer", "customerId"))
            if finding[name] is not None
        ]
        print(f"  {finding['kind']}: {finding['detail']}" + (f" ({', '.join(about)})" if about else ""))
        if finding["repair"]:
            print(f"      {finding['repair']}")
    if count > len(findings):
        print(f"  and {count - len(findings)} more")


def _limit(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not (number.isascii() and number.isdigit()):
        raise InvalidError(f"--limit takes NAME=NUMBER, not {text!r}")
    return name, int(number)


def _moment(text: str) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a time such as 2027-01-31T00:00:00+00:00 is expected: {text!r}") from None
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError("a time with its zone is expected, such as ...+00:00")
    return at.isoformat()
