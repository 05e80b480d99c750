"""Publishes containers where others look for them, and keeps what is published true."""

from zlh.edge.edge import Outlets

__all__ = ["Outlets"]
