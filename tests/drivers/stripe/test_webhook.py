from __future__ import annotations

import hmac
import json
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zlh.drivers.errors import Invalid
from zlh.drivers.stripe import WebhookRefused, read_webhook
from zlh.drivers.stripe.webhook import LONGEST_HEADER, TOLERANCE_SECONDS
from zlh.model.billing import BillingEvent
from zlh.simulators.stripe.signature import sign

AT = 1_772_366_400
NEW, OLD = "whsec_new", "whsec_old"


def an_event(**changes: Any) -> dict[str, Any]:
    plain = {
        "id": "evt_1",
        "object": "event",
        "type": "invoice.paid",
        "created": AT - 3,
        "livemode": False,
        "data": {"object": {"id": "in_1", "object": "invoice", "customer": "cus_1", "amount_due": 900}},
    }
    return plain | changes


BODY = json.dumps(an_event()).encode()


def received(
    body: bytes = BODY, signature: str | None = None, *, at: float = AT, secrets: tuple[str, ...] = (NEW, OLD)
) -> BillingEvent:
    return read_webhook(body, sign(body, [NEW], AT) if signature is None else signature, secrets, now=lambda: at)


def test_a_signed_event_says_what_happened_to_whom() -> None:
    happened = datetime.fromtimestamp(AT - 3, UTC)
    assert received() == BillingEvent("evt_1", "invoice.paid", happened, "in_1", "cus_1", False)


@pytest.mark.parametrize("customer", [{"id": "cus_2", "object": "customer", "email": "a@example.com"}, "cus_2"])
def test_a_customer_may_be_expanded(customer: object) -> None:
    body = json.dumps(an_event(data={"object": {"id": "in_1", "object": "invoice", "customer": customer}})).encode()
    assert received(body).customer_id == "cus_2"


def test_an_event_about_a_customer_is_about_that_one() -> None:
    body = json.dumps(an_event(type="customer.deleted", data={"object": {"id": "cus_3", "object": "customer"}}))
    assert received(body.encode()).customer_id == "cus_3"


@pytest.mark.parametrize("named", [{}, {"id": None}])
def test_what_has_no_id_of_its_own_is_an_event_all_the_same(named: dict[str, None]) -> None:
    about = {"object": "invoice", "customer": "cus_1", **named}
    body = json.dumps(an_event(type="invoice.upcoming", data={"object": about}))
    assert received(body.encode()).customer_id == "cus_1"


# Whose it is


@pytest.mark.parametrize("secret", [NEW, OLD])
def test_while_secrets_are_changed_both_are_good(secret: str) -> None:
    assert received(signature=sign(BODY, [secret], AT)).id == "evt_1"


def test_one_signature_of_several_is_enough() -> None:
    assert received(signature=sign(BODY, ["whsec_other", OLD], AT), secrets=(OLD,)).id == "evt_1"


@pytest.mark.parametrize(
    "signature",
    [
        sign(BODY, ["whsec_other"], AT),
        sign(BODY, [""], AT),
        sign(BODY, [NEW], AT).replace("v1=", "v0="),
        sign(BODY, [NEW], AT)[:-1],
        sign(BODY, [NEW], AT).replace(f"t={AT}", f"t={AT + 1}"),
        sign(BODY, [NEW], AT).replace("t=", "T="),
        sign(BODY, [NEW], AT).partition(",")[2],
        f"t={AT}",
        f"t={AT},v1=",
        f"t={AT},v1",
        "",
        ",",
        "=",
        "t=,v1=00",
        "t=-,v1=00",
        "t=١٢,v1=00",
        f"t={'9' * 4000},v1=00",
        f"t={AT},v1=é",
        "\x00",
    ],
)
def test_what_is_not_signed_by_us_and_stripe_is_refused(signature: str) -> None:
    with pytest.raises(WebhookRefused):
        received(signature=signature)


def test_a_signature_of_another_body_is_refused() -> None:
    signature = sign(BODY, [NEW], AT)
    for body in (BODY[:-1], BODY + b" ", BODY.replace(b"cus_1", b"cus_2"), b""):
        with pytest.raises(WebhookRefused):
            received(body, signature)


def test_a_header_of_many_signatures_is_refused_unread() -> None:
    padded = sign(BODY, [NEW], AT) + ",v1=0" * LONGEST_HEADER
    with pytest.raises(WebhookRefused, match="no signature that can be read"):
        received(signature=padded)


@pytest.mark.parametrize("secrets", [(), ("",), ("", " ")])
def test_without_a_secret_nothing_is_believed(secrets: tuple[str, ...]) -> None:
    for key in ("", " "):
        with pytest.raises(WebhookRefused):
            received(signature=sign(BODY, [key], AT), secrets=secrets)


def test_a_refusal_tells_nothing_of_secrets_and_of_what_came() -> None:
    with pytest.raises(WebhookRefused) as refused:
        received(signature=sign(BODY, ["whsec_other"], AT))
    assert "whsec" not in str(refused.value)
    assert "cus_1" not in str(refused.value)
    assert refused.value.__cause__ is None


# When it was made


@pytest.mark.parametrize("seconds", [-TOLERANCE_SECONDS, 0, TOLERANCE_SECONDS])
def test_five_minutes_are_let_pass_in_both_directions(seconds: int) -> None:
    assert received(at=AT + seconds).id == "evt_1"


@pytest.mark.parametrize("seconds", [-TOLERANCE_SECONDS - 1, TOLERANCE_SECONDS + 1, 10**6, -(10**6)])
def test_what_was_signed_too_long_ago_or_for_the_future_is_refused(seconds: int) -> None:
    with pytest.raises(WebhookRefused, match="too old, or of the future"):
        received(at=AT + seconds)


def signed_as(time_part: str, signed_time: int) -> str:
    digest = hmac.new(NEW.encode(), f"{signed_time}.".encode() + BODY, sha256).hexdigest()
    return f"{time_part},v1={digest}"


@pytest.mark.parametrize(
    ("time_part", "signed_time"),
    [
        # An old signature, with a new time beside it.
        (f"t={AT - 1000},t={AT}", AT - 1000),
        (f"t={AT},t={AT - 1000}", AT - 1000),
        (f" t={AT},t={AT - 1000}", AT - 1000),
        (f"t={AT - 1000}=,t={AT}", AT - 1000),
        (f"t={'9' * 400}", int("9" * 400)),
        ("t=-1", -1),
    ],
)
def test_a_second_time_in_the_header_makes_an_old_signature_no_newer(time_part: str, signed_time: int) -> None:
    with pytest.raises(WebhookRefused):
        received(signature=signed_as(time_part, signed_time))


@settings(max_examples=200)
@given(st.text(max_size=200) | st.text("tv01=,9 _-", max_size=60))
def test_no_header_does_anything_but_be_refused(header: str) -> None:
    with pytest.raises(WebhookRefused):
        received(signature=header)


# What it says


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"{",
        b"[]",
        b"null",
        b"1",
        b"[" * 5000,
        b"{}",
        json.dumps({"object": "v2.core.event", "id": "evt_1", "type": "v1.billing.meter.no_meter_found"}).encode(),
        *(
            json.dumps(an_event(**changes)).encode()
            for changes in (
                {"id": None},
                {"id": ""},
                {"id": "e" * 300},
                {"id": 7},
                {"type": ""},
                {"type": ["invoice.paid"]},
                {"created": "yesterday"},
                {"created": 1.5},
                {"created": True},
                {"created": -1},
                {"created": 10**30},
                {"data": None},
                {"data": {"object": None}},
                {"data": {"object": {"id": "in_1", "object": "invoice", "customer": 7}}},
                {"livemode": "no"},
            )
        ),
    ],
)
def test_what_is_signed_and_no_event_is_told_apart(body: bytes) -> None:
    with pytest.raises(Invalid) as invalid:
        received(body)
    assert "cus_1" not in invalid.value.message


def test_a_body_that_is_no_text_is_refused() -> None:
    body = b'{"id": "\xff"}'
    with pytest.raises(WebhookRefused, match="UTF-8"):
        received(body)
