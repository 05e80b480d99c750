"""Money: what is paid decides what may run. See docs/billing.md."""

from zlh.billing.invariants import Finding, Kind, Machine, findings
from zlh.billing.services import BillingServices, Selling, open_billing

__all__ = ["BillingServices", "Finding", "Kind", "Machine", "Selling", "findings", "open_billing"]
