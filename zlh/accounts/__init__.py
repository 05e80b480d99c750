"""Accounts: passwords, tokens, sessions, and who may do what."""

from zlh.accounts.access import KEY_PREFIX, AccessTable, KeyStanding, require_scope
from zlh.accounts.accounts import Accounts
from zlh.accounts.audit import AuditTrail, credential_of
from zlh.accounts.grants import AccessGrant
from zlh.accounts.guestbook import ConsoleGuestbook
from zlh.accounts.ide_tokens import LIFETIME_SECONDS as IDE_TOKEN_SECONDS
from zlh.accounts.ide_tokens import IdeTokens
from zlh.accounts.identities import LONGEST_EMAIL, LONGEST_USERNAME, email_problem, username_problem
from zlh.accounts.key_life import KeyRules, KeyState
from zlh.accounts.keyring import Keyring, make_key
from zlh.accounts.oversight import Also, Overseer, Oversight
from zlh.accounts.password_rules import LONGEST as LONGEST_PASSWORD
from zlh.accounts.password_rules import SHORTEST as SHORTEST_PASSWORD
from zlh.accounts.password_rules import password_problem, require_good_password
from zlh.accounts.passwords import Passwords
from zlh.accounts.rules import Rules
from zlh.accounts.second_factor import SecondFactor
from zlh.accounts.services import AccountServices, TokenRules, open_accounts
from zlh.accounts.sessions import Sessions
from zlh.accounts.sign_in import ReusedError, SignedIn, SignIn
from zlh.accounts.signing_keys import SigningKeys, open_keyring
from zlh.accounts.tokens import Tokens
from zlh.accounts.transfers import TransferLog
from zlh.accounts.visits import note_visit

__all__ = [
    "IDE_TOKEN_SECONDS",
    "KEY_PREFIX",
    "LONGEST_EMAIL",
    "LONGEST_PASSWORD",
    "LONGEST_USERNAME",
    "SHORTEST_PASSWORD",
    "AccessGrant",
    "AccessTable",
    "AccountServices",
    "Accounts",
    "Also",
    "AuditTrail",
    "ConsoleGuestbook",
    "IdeTokens",
    "KeyRules",
    "KeyStanding",
    "KeyState",
    "Keyring",
    "Overseer",
    "Oversight",
    "Passwords",
    "ReusedError",
    "Rules",
    "SecondFactor",
    "Sessions",
    "SignIn",
    "SignedIn",
    "SigningKeys",
    "TokenRules",
    "Tokens",
    "TransferLog",
    "credential_of",
    "email_problem",
    "make_key",
    "note_visit",
    "open_accounts",
    "open_keyring",
    "password_problem",
    "require_good_password",
    "require_scope",
    "username_problem",
]
