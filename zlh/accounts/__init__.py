"""Accounts: passwords, tokens, sessions, and who may do what."""

from zlh.accounts.access import AccessTable
from zlh.accounts.grants import AccessGrant
from zlh.accounts.passwords import LONGEST as LONGEST_PASSWORD
from zlh.accounts.passwords import SHORTEST as SHORTEST_PASSWORD
from zlh.accounts.passwords import Passwords
from zlh.accounts.service import Accounts, Rules, SignedIn
from zlh.accounts.tokens import Tokens, make_key, open_tokens

__all__ = [
    "LONGEST_PASSWORD",
    "SHORTEST_PASSWORD",
    "AccessGrant",
    "AccessTable",
    "Accounts",
    "Passwords",
    "Rules",
    "SignedIn",
    "Tokens",
    "make_key",
    "open_tokens",
]
