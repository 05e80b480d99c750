"""Publishes containers where others look for them, and keeps what is published true."""

from zlh.edge.difference import Blocked, Difference
from zlh.edge.edge import Outlets
from zlh.edge.report import Report

__all__ = ["Blocked", "Difference", "Outlets", "Report"]
