"""One database address, as people write it, for the two libraries that connect to it."""

from __future__ import annotations

import sqlalchemy as sa


def sqlalchemy_url(url: str) -> sa.URL:
    """`postgres://`, `postgresql://` and `postgresql+psycopg://` are the same: psycopg 3 is our only driver.

    Raises ValueError for an address of anything but PostgreSQL.
    """
    parsed = sa.make_url(url)
    if parsed.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise ValueError(f"not a PostgreSQL address: {parsed.drivername}://...")
    return parsed.set(drivername="postgresql+psycopg")


def libpq_url(url: str) -> str:
    """The same address for psycopg itself; holds the password in clear."""
    return sqlalchemy_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
