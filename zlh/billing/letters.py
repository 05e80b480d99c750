"""What customers are told by e-mail about their plan: pure functions, from what was and what is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from zlh.model.accounts import Account
from zlh.model.billing import BillingStatus, Subscription
from zlh.model.plans import Plan
from zlh.store.outbox import Letter


@dataclass(frozen=True, slots=True)
class Side:
    """An account, the subscription that counts, and the plan that follows, at one moment."""

    account: Account
    subscription: Subscription | None
    plan: Plan | None

    @property
    def active(self) -> bool:
        return self.account.billing_status == BillingStatus.ACTIVE

    @property
    def suspended(self) -> bool:
        return self.account.billing_suspended_at is not None

    @property
    def paid(self) -> bool:
        """Whether it is a payment that keeps it active, and not what an operator gave."""
        return self.subscription is not None and self.subscription.status.live and not self.subscription.status.owing

    @property
    def owing(self) -> bool:
        return self.subscription is not None and self.subscription.status.owing

    @property
    def title(self) -> str:
        return (self.plan.title or self.plan.name) if self.plan is not None else "your plan"


def letters(before: Side, after: Side, portal_url: str) -> list[Letter]:
    """One a turn at most, for whatever matters most; a second one where the end of the subscription was chosen or
    taken back."""
    told = _turn(before, after, portal_url)
    chosen = _end_chosen(before.subscription, after)
    return [letter for letter in (told, chosen) if letter is not None]


def _turn(before: Side, after: Side, portal_url: str) -> Letter | None:
    if after.suspended and not before.suspended:
        return _suspended(after, portal_url)
    if before.suspended and not after.suspended and after.active:
        return _letter(
            after,
            "billing_resumed",
            "Your servers are back",
            f"{_why_active(after)} Your servers are being started again, as they were before.",
        )
    if after.account.suspends_at is not None and before.account.suspends_at is None:
        return _unpaid(after, after.account.suspends_at, portal_url)
    if after.active and not before.active:
        return _begun(before, after)
    if after.active and before.account.plan != after.account.plan and after.plan is not None:
        return _letter(
            after,
            "plan_changed",
            f"Your plan is now {after.title}",
            f"Your plan was changed from {before.title} to {after.title}.",
        )
    if after.account.billing_status == BillingStatus.CANCELED != before.account.billing_status:
        return _letter(
            after,
            "subscription_ended",
            "Your subscription has ended",
            f"Your subscription has ended. You can choose a plan again at any time:\n\n{portal_url}",
        )
    return None


def _begun(before: Side, after: Side) -> Letter | None:
    if before.account.billing_status == BillingStatus.PAST_DUE and after.paid:
        return _letter(after, "payment_received", "Your payment has arrived", _why_active(after))
    return _letter(
        after,
        "subscription_begun",
        f"Welcome to {after.title}",
        f"Your plan {after.title} is active. You can make servers now.",
    )


def _why_active(after: Side) -> str:
    if after.paid:
        return f"Thank you: your payment for {after.title} has arrived."
    return f"Your plan {after.title} is active."


def _unpaid(after: Side, suspends_at: datetime, portal_url: str) -> Letter:
    if not after.owing:
        return _letter(
            after,
            "plan_ending",
            "Your plan has ended",
            f"The time for which you were given {after.title} is over. To keep your servers, please choose a plan:"
            f"\n\n{portal_url}\n\nUntil {_day(suspends_at)} nothing changes. After that your servers are stopped"
            " until you pay; your data stays where it is.",
        )
    return _letter(
        after,
        "payment_failed",
        "Your payment failed",
        f"We could not collect the payment for {after.title}. Please check your means of payment:\n\n{portal_url}\n\n"
        f"Until {_day(suspends_at)} nothing changes. After that your servers are stopped until you pay; your data"
        " stays where it is.",
    )


def _suspended(after: Side, portal_url: str) -> Letter:
    why = {
        BillingStatus.CANCELED.value: "Your subscription has ended",
        BillingStatus.INACTIVE.value: "Your plan has ended",
    }.get(after.account.billing_status or "", f"The payment for {after.title} is still missing")
    return _letter(
        after,
        "billing_suspended",
        "Your servers are stopped",
        f"{why}, so your servers are stopped. Your data is kept, and you can still download it.\n\n"
        f"As soon as you pay, your servers are started again, as they were:\n\n{portal_url}",
    )


def _end_chosen(before: Subscription | None, after: Side) -> Letter | None:
    now = after.subscription
    if before is None or now is None or before.id != now.id or not now.status.live:
        return None
    if now.cancel_at is not None and before.cancel_at is None:
        return _letter(
            after,
            "cancellation_noted",
            "Your subscription will end",
            f"Your subscription ends on {_day(now.cancel_at)}, as was chosen. Until then everything stays as it is;"
            " then your servers are stopped. You can take that back until then.",
        )
    if now.cancel_at is None and before.cancel_at is not None:
        return _letter(
            after, "cancellation_withdrawn", "Your subscription goes on", "Your subscription goes on, as was chosen."
        )
    return None


def _letter(side: Side, kind: str, subject: str, text: str) -> Letter:
    account = side.account
    return Letter(kind, account.email, subject, f"Hello {account.username},\n\n{text}\n")


def _day(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d at %H:%M} UTC"
