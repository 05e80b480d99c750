"""Every route, and for each who may call it. This is the one place that says so."""

from __future__ import annotations

import functools

import orjson
from quart import Response

from zlh.api import (
    accounts,
    answers,
    api_keys,
    audit,
    auth,
    bodies,
    catalog,
    containers,
    credentials,
    health,
    ide,
    instances,
    metrics,
    operation_events,
    operations,
    operators,
    server_events,
    servers,
    sessions,
    shares,
    totp,
    well_known,
)
from zlh.api.call import Call, raw_json
from zlh.api.document import describe
from zlh.api.routing import ACCOUNT, VMID, Route, Who
from zlh.model.access import Permission, Scope

PUBLIC, SIGNED_IN, OPERATOR, ADMIN = Who.PUBLIC, Who.SIGNED_IN, Who.OPERATOR, Who.ADMIN
TEXT = "text/plain"
EVENTS = "text/event-stream"


@functools.cache
def rendered_document() -> bytes:
    return orjson.dumps(describe(ROUTES))


async def openapi(call: Call) -> Response:
    return raw_json(rendered_document())


AUTH = (
    Route(
        "POST",
        "/api/auth/register",
        PUBLIC,
        auth.register,
        "Register",
        answers.Registered,
        201,
        bodies.Register,
        audited="account.register",
    ),
    Route(
        "POST",
        "/api/auth/login",
        PUBLIC,
        auth.login,
        "Sign in",
        answers.SignedIn,
        body=bodies.Login,
        audited="sign_in",
    ),
    Route(
        "POST",
        "/api/auth/refresh",
        PUBLIC,
        auth.refresh,
        "Next tokens",
        answers.SignedIn,
        body=bodies.Refresh,
        audited="session.refresh",
    ),
    Route(
        "POST",
        "/api/auth/logout",
        SIGNED_IN,
        auth.logout,
        "Sign out",
        answers.Ok,
        suspended=True,
        acting=True,
        audited="sign_out",
    ),
    Route(
        "GET",
        "/api/auth/me",
        SIGNED_IN,
        auth.me,
        "One's own account",
        answers.Me,
        scope=Scope.ACCOUNT_READ,
        suspended=True,
    ),
    Route(
        "PATCH",
        "/api/auth/me",
        SIGNED_IN,
        auth.change_me,
        "Change one's names",
        answers.Me,
        body=bodies.Profile,
        audited="account.rename",
    ),
    Route(
        "GET",
        "/api/users/profile",
        SIGNED_IN,
        auth.profile,
        "One's plan and billing",
        answers.BillingProfile,
        scope=Scope.ACCOUNT_READ,
        suspended=True,
    ),
)

CREDENTIALS = (
    Route(
        "POST",
        "/api/auth/password/forgot",
        PUBLIC,
        credentials.forgot_password,
        "A link by e-mail, with which a new password can be chosen",
        answers.Ok,
        202,
        credentials.ForgotPassword,
        audited="password.forgot",
    ),
    Route(
        "POST",
        "/api/auth/password/reset",
        PUBLIC,
        credentials.reset_password,
        "A new password, by a link",
        answers.Ok,
        body=credentials.ResetPassword,
        audited="password.reset",
    ),
    Route(
        "POST",
        "/api/auth/password",
        SIGNED_IN,
        credentials.change_password,
        "A new password, by the present one",
        answers.Ok,
        body=credentials.ChangePassword,
        audited="password.change",
    ),
    Route(
        "POST",
        "/api/auth/email/verify",
        PUBLIC,
        credentials.verify_email,
        "Verify an e-mail address, by a link",
        answers.Ok,
        body=credentials.VerifyEmail,
        audited="email.verify",
    ),
    Route(
        "POST",
        "/api/auth/email/resend",
        SIGNED_IN,
        credentials.resend_verification,
        "One more link that verifies one's e-mail address",
        answers.Ok,
        202,
        audited="email.resend",
    ),
    Route(
        "POST",
        "/api/auth/email",
        SIGNED_IN,
        credentials.change_email,
        "Another e-mail address, once a link that is sent to it was used",
        answers.Ok,
        202,
        credentials.ChangeEmail,
        audited="email.change",
    ),
)

API_KEYS = (
    Route("GET", "/api/auth/api-keys", SIGNED_IN, api_keys.list_keys, "One's API keys", api_keys.ApiKeys),
    Route(
        "POST",
        "/api/auth/api-keys",
        SIGNED_IN,
        api_keys.create_key,
        "Make an API key, which is shown once",
        api_keys.CreatedApiKey,
        201,
        api_keys.CreateApiKey,
        audited="api_key.create",
    ),
    Route(
        "DELETE",
        "/api/auth/api-keys/<key_id>",
        SIGNED_IN,
        api_keys.delete_key,
        "Delete an API key; what is open with it ends",
        answers.Ok,
        audited="api_key.revoke",
    ),
)

SESSIONS = (
    Route(
        "GET",
        "/api/auth/sessions",
        SIGNED_IN,
        sessions.list_sessions,
        "Where one is signed in",
        sessions.Sessions,
        suspended=True,
    ),
    Route(
        "DELETE",
        "/api/auth/sessions",
        SIGNED_IN,
        sessions.end_all,
        "Sign out everywhere else, or everywhere",
        answers.Ok,
        query=sessions.EndAllQuery,
        suspended=True,
        audited="sessions.revoke_all",
    ),
    Route(
        "DELETE",
        "/api/auth/sessions/<session_id>",
        SIGNED_IN,
        sessions.end_session,
        "Sign out there",
        answers.Ok,
        suspended=True,
        audited="session.revoke",
    ),
)

TOTP = (
    Route(
        "GET",
        "/api/auth/totp",
        SIGNED_IN,
        totp.totp_state,
        "Whether the second factor is on",
        totp.TotpState,
        suspended=True,
    ),
    Route(
        "POST",
        "/api/auth/totp",
        SIGNED_IN,
        totp.begin_totp,
        "A secret for the app of the second factor",
        totp.BegunTotp,
        body=totp.BeginTotp,
        audited="totp.begin",
    ),
    Route(
        "POST",
        "/api/auth/totp/confirm",
        SIGNED_IN,
        totp.confirm_totp,
        "Switch the second factor on, with its first code",
        totp.RecoveryCodes,
        body=totp.ConfirmTotp,
        audited="totp.enable",
    ),
    Route(
        "POST",
        "/api/auth/totp/recovery-codes",
        SIGNED_IN,
        totp.renew_recovery_codes,
        "Ten new recovery codes in place of the old ones",
        totp.RecoveryCodes,
        body=totp.PasswordAndCode,
        audited="totp.recovery_codes",
    ),
    Route(
        "DELETE",
        "/api/auth/totp",
        SIGNED_IN,
        totp.disable_totp,
        "Switch the second factor off",
        answers.Ok,
        body=totp.PasswordAndCode,
        audited="totp.disable",
    ),
)

CONTAINERS = (
    Route(
        "GET",
        "/api/instances",
        SIGNED_IN,
        instances.list_instances,
        "One's containers",
        answers.Instances,
        scope=Scope.SERVERS_READ,
    ),
    Route(
        "POST",
        "/api/instances",
        SIGNED_IN,
        instances.create_instance,
        "Create a container",
        answers.Created,
        202,
        bodies.CreateInstance,
        scope=Scope.SERVERS_WRITE,
        idempotent=True,
        audited="container.create",
    ),
    Route(
        "GET",
        f"/api/instances/{VMID}",
        SIGNED_IN,
        instances.one_instance,
        "One container",
        answers.OneInstance,
        scope=Scope.SERVERS_READ,
    ),
    Route(
        "DELETE",
        f"/api/containers/{VMID}",
        SIGNED_IN,
        containers.teardown,
        "Tear a container down",
        answers.TornDown,
        202,
        query=bodies.TeardownQuery,
        scope=Scope.SERVERS_WRITE,
        permission=None,
        audited="container.teardown",
    ),
    Route(
        "GET",
        "/api/containers/orphans",
        OPERATOR,
        containers.orphans,
        "What was left over",
        answers.Orphans,
        scope=Scope.OPERATOR,
    ),
    Route(
        "POST",
        "/api/containers/orphans/sweep",
        OPERATOR,
        containers.sweep,
        "Remove what was left over",
        answers.Swept,
        body=bodies.Sweep,
        scope=Scope.OPERATOR,
        idempotent=True,
        audited="orphans.sweep",
    ),
)

OPERATIONS = (
    Route(
        "GET",
        "/api/operations",
        SIGNED_IN,
        operations.list_operations,
        "Operations, the newest first",
        answers.OperationPage,
        query=bodies.OperationsQuery,
        scope=Scope.SERVERS_READ,
    ),
    Route(
        "GET",
        "/api/operations/<operation_id>",
        SIGNED_IN,
        operations.one_operation,
        "One operation with its steps",
        answers.OneOperation,
        scope=Scope.SERVERS_READ,
    ),
    Route(
        "GET",
        "/api/operations/<operation_id>/events",
        SIGNED_IN,
        operation_events.follow_operation,
        "Follow an operation; resumable with Last-Event-ID",
        None,
        scope=Scope.SERVERS_READ,
        media=EVENTS,
    ),
)

SERVER_EVENTS = Route(
    "GET",
    "/api/servers/events",
    SIGNED_IN,
    server_events.server_events,
    "Websocket: a snapshot of one's servers, then what changes",
    None,
    101,
    scope=Scope.SERVERS_READ,
    websocket=True,
)

SERVERS = (
    Route(
        "GET",
        "/api/servers",
        SIGNED_IN,
        servers.list_servers,
        "One's servers",
        answers.Servers,
        scope=Scope.SERVERS_READ,
    ),
    Route(
        "GET",
        f"/api/servers/{VMID}",
        SIGNED_IN,
        servers.one_server,
        "One server",
        answers.OneServer,
        scope=Scope.SERVERS_READ,
    ),
    *(
        Route(
            "POST",
            f"/api/servers/{VMID}/game/{verb}",
            SIGNED_IN,
            servers.game(verb),
            f"Game: {verb}",
            answers.Ok,
            scope=Scope.SERVERS_POWER,
            permission=Permission.POWER,
            audited=f"game.{verb}",
            through_outages=True,
        )
        for verb in ("start", "stop", "restart", "kill")
    ),
    *(
        Route(
            "POST",
            f"/api/servers/{VMID}/host/{verb}",
            SIGNED_IN,
            servers.host(verb),
            f"Container: {verb}",
            answers.HostPower,
            202,
            scope=Scope.SERVERS_POWER,
            permission=Permission.POWER,
            audited=f"host.{verb}",
        )
        for verb in ("start", "stop", "restart")
    ),
    Route(
        "PUT",
        f"/api/servers/{VMID}/upgrade",
        SIGNED_IN,
        servers.upgrade,
        "Change a container's size within the plan",
        answers.Upgraded,
        202,
        bodies.Upgrade,
        scope=Scope.SERVERS_WRITE,
        permission=Permission.OWN,
        audited="container.upgrade",
    ),
    SERVER_EVENTS,
)

AUDIT = (
    Route(
        "GET",
        "/api/audit",
        SIGNED_IN,
        audit.list_audit,
        "Who did what, the newest first: one's own, of everybody for operators",
        audit.AuditPage,
        query=audit.AuditQuery,
        scope=Scope.ACCOUNT_READ,
        suspended=True,
    ),
)

DEV = (
    Route(
        "POST",
        f"/api/dev/{VMID}/ide-token",
        SIGNED_IN,
        ide.ide_token,
        "A way into the IDE: for one minute, once",
        ide.IdeToken,
        scope=Scope.IDE,
        permission=Permission.IDE,
        audited="ide.token",
    ),
)

SHARES = (
    Route(
        "GET",
        f"/api/servers/{VMID}/shares",
        SIGNED_IN,
        shares.list_shares,
        "With whom a container is shared",
        shares.Shares,
        scope=Scope.SHARES,
        permission=Permission.OWN,
    ),
    Route(
        "POST",
        f"/api/servers/{VMID}/shares",
        SIGNED_IN,
        shares.give,
        "Share a container with an e-mail address",
        shares.Shared,
        201,
        shares.GiveShare,
        scope=Scope.SHARES,
        permission=Permission.OWN,
        idempotent=True,
        audited="share.create",
    ),
    Route(
        "PATCH",
        f"/api/servers/{VMID}/shares/<share_id>",
        SIGNED_IN,
        shares.change,
        "Change what is given",
        shares.Shared,
        body=shares.ChangeShare,
        scope=Scope.SHARES,
        permission=Permission.OWN,
        audited="share.change",
    ),
    Route(
        "DELETE",
        f"/api/servers/{VMID}/shares/<share_id>",
        SIGNED_IN,
        shares.withdraw,
        "Take back what was given",
        answers.Ok,
        scope=Scope.SHARES,
        permission=Permission.OWN,
        audited="share.withdraw",
    ),
    Route(
        "GET",
        "/api/shares",
        SIGNED_IN,
        shares.list_received,
        "What others share with oneself",
        shares.ReceivedShares,
        scope=Scope.SHARES,
    ),
    Route(
        "DELETE",
        "/api/shares/<share_id>",
        SIGNED_IN,
        shares.leave,
        "Give back what others share",
        answers.Ok,
        scope=Scope.SHARES,
        audited="share.leave",
    ),
)

CATALOG = (
    Route("GET", "/api/catalog/game", PUBLIC, catalog.games, "Games, variants, versions", answers.GameCatalog),
    Route("GET", "/api/catalog/dev", PUBLIC, catalog.runtimes, "Runtimes and versions", answers.DevCatalog),
)

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
    Route("GET", "/api/openapi.json", PUBLIC, openapi, "This document", None),
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

# An API key may do all of this but act as somebody else: that takes a person, who signed in.
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
        scope=Scope.OPERATOR,
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

ROUTES: tuple[Route, ...] = (
    *AUTH,
    *CREDENTIALS,
    *SESSIONS,
    *TOTP,
    *API_KEYS,
    *CONTAINERS,
    *OPERATIONS,
    *SERVERS,
    *SHARES,
    *DEV,
    *AUDIT,
    *CATALOG,
    *MACHINES,
    *PEOPLE,
)
