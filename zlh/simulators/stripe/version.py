"""The version of Stripe's API that is simulated: the one that the official library asks for."""

VERSION = "2026-10-28.endive"
