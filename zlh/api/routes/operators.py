"""What machines and operators ask, and customers' accounts in operators' hands."""

from __future__ import annotations

from zlh.api import (
    accounts,
    answers,
    health,
    metrics,
    operators,
    well_known,
)
from zlh.api.routing import ACCOUNT, Route, Who
from zlh.model.access import Scope

PUBLIC, OPERATOR, ADMIN = Who.PUBLIC, Who.OPERATOR, Who.ADMIN
TEXT = "text/plain"

ACTOR = "/api/operators/actors/<path:path>"

MACHINES = (
    Route("GET", "/api/health", PUBLIC, health.health, "This process answers", answers.Health),
    Route("GET", "/api/ready", PUBLIC, health.ready, "All that it needs answers", answers.Ready),
    Route(
        "GET",
        "/.well-known/jwks.json",
        PUBLIC,
        well_known.jwks,
        "Keys to verify what is signed",
        well_known.Jwks,
    ),
    Route("GET", "/metrics", PUBLIC, metrics.metrics, "Prometheus metrics", None, media=TEXT),
    Route(
        "GET",
        "/api/operators/actors",
        OPERATOR,
        operators.actors,
        "The supervision tree",
        answers.ActorTree,
        scope=Scope.OPERATOR,
    ),
    Route(
        "GET", ACTOR, OPERATOR, operators.one_actor, "One part of the tree", answers.OneActor, scope=Scope.OPERATOR
    ),
    Route(
        "POST",
        f"{ACTOR}/restart",
        OPERATOR,
        operators.restart,
        "Restart an actor",
        answers.Ok,
        scope=Scope.OPERATOR,
        audited="actor.restart",
        through_outages=True,
    ),
    Route(
        "POST",
        f"{ACTOR}/release",
        OPERATOR,
        operators.release,
        "End a quarantine now",
        answers.Ok,
        scope=Scope.OPERATOR,
        audited="actor.release",
        through_outages=True,
    ),
)

ACCOUNTS = "/api/operators/accounts"

# An API key may do most of this. To give a role and to act as somebody else takes a person, who signed in.

PEOPLE = (
    Route(
        "GET",
        ACCOUNTS,
        OPERATOR,
        accounts.list_accounts,
        "Accounts, the newest first",
        accounts.AccountPage,
        query=accounts.AccountsQuery,
        scope=Scope.OPERATOR,
    ),
    Route(
        "GET",
        f"{ACCOUNTS}/{ACCOUNT}",
        OPERATOR,
        accounts.one_account,
        "One account",
        accounts.AccountDetails,
        scope=Scope.OPERATOR,
    ),
    *(
        Route(
            "POST",
            f"{ACCOUNTS}/{ACCOUNT}/{verb}",
            OPERATOR,
            handler,
            summary,
            accounts.ChangedAccount,
            body=body,
            scope=Scope.OPERATOR,
            audited=f"account.{verb}",
        )
        for verb, handler, summary, body in (
            ("suspend", accounts.suspend, "Let an account only look at itself", accounts.Because),
            ("unsuspend", accounts.unsuspend, "End a suspension", None),
            ("disable", accounts.disable, "Sign an account out and let it sign in no more", accounts.Because),
            ("enable", accounts.enable, "Let a disabled account sign in again", None),
        )
    ),
    Route(
        "PUT",
        f"{ACCOUNTS}/{ACCOUNT}/role",
        ADMIN,
        accounts.set_role,
        "Give an account another role",
        accounts.ChangedAccount,
        body=accounts.NewRole,
        audited="account.role",
    ),
    Route(
        "POST",
        f"{ACCOUNTS}/{ACCOUNT}/sign-out",
        OPERATOR,
        accounts.sign_out,
        "End all sessions of an account",
        accounts.SignedOut,
        scope=Scope.OPERATOR,
        audited="account.sign_out",
    ),
    Route(
        "POST",
        f"{ACCOUNTS}/{ACCOUNT}/act",
        OPERATOR,
        accounts.act,
        "Act in a customer's place, for a reason and not for long",
        accounts.ActingToken,
        201,
        accounts.Act,
        audited="account.act",
    ),
)
