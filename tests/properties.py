"""How properties are tested: the same examples every time, and however slow the machine is.

Whoever wants others than those gives pytest `--hypothesis-profile=search`.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Both count time, of which a busy machine has little.
UNHURRIED = settings(deadline=None, suppress_health_check=(HealthCheck.too_slow,), database=None)


def choose_examples() -> None:
    """For every property that is declared from here on."""
    settings.register_profile("same", UNHURRIED, derandomize=True)
    settings.register_profile("search", UNHURRIED)
    settings.load_profile("same")
