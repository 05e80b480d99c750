from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime

import pyotp
import pytest
import sqlalchemy as sa
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.accounts.house import PASSWORD, House, principal_of, register
from zlh.accounts import AccountServices, SignedIn
from zlh.accounts.second_factor import matching_steps, new_recovery_codes, plain, recovery_hash
from zlh.model.accounts import Account, Principal, Role
from zlh.model.errors import ConflictError, ForbiddenError, ProblemError, TooManyError, UnauthenticatedError
from zlh.store import accounts as rows
from zlh.store import second_factors as stored
from zlh.store.tables import recovery_codes, second_factors

SECRET = "JBSWY3DPEHPK3PXP" * 2


class App:
    """The app on the phone; `code` is the one that it shows now, or `steps` later."""

    def __init__(self, house: House, secret: str) -> None:
        self._house = house
        self._totp = pyotp.TOTP(secret)

    def code(self, steps: int = 0) -> str:
        return self._totp.at(self._house.clock(), counter_offset=steps)


async def switched_on(house: House, people: AccountServices, principal: Principal) -> tuple[App, list[str]]:
    """With a code of the step before, so that the next one is good at once."""
    begun = await people.second_factor.begin(principal, PASSWORD, "")
    app = App(house, begun.secret)
    return app, await people.second_factor.confirm(principal, app.code(-1), "")


async def login(people: AccountServices, totp: str | None = None, **visit: str) -> SignedIn:
    return await people.sign_in.login(identifier="ada", password=PASSWORD, totp=totp, **visit)


async def refused(call: Awaitable[object]) -> tuple[int, str]:
    with pytest.raises(ProblemError) as caught:
        await call
    return caught.value.status, caught.value.code


async def test_on_and_off(house: House) -> None:
    people = await house.open()
    signed = await register(people)
    principal = principal_of(people, signed)
    off = await people.second_factor.state(principal)
    assert (off.since, off.recovery_codes_left, off.required) == (None, 0, False)
    begun = await people.second_factor.begin(principal, PASSWORD, "")
    assert pyotp.parse_uri(begun.uri).secret == begun.secret
    assert "ada%40example.com" in begun.uri
    # Nothing is on before the first code.
    assert (await login(people)).account.second_factor_at is None
    app = App(house, begun.secret)
    codes = await people.second_factor.confirm(principal, app.code(-1), "")
    on = await people.second_factor.state(principal)
    assert (on.since, on.recovery_codes_left) == (house.clock(), 10)
    assert len(set(codes)) == 10
    assert await refused(login(people)) == (401, "totp_required")
    assert await refused(login(people, "")) == (401, "totp_required")
    assert await refused(login(people, "000000")) == (401, "wrong_totp")
    assert (await login(people, app.code())).account.second_factor_at == house.clock()
    await people.second_factor.switch_off(principal, PASSWORD, app.code(1), "")
    assert (await login(people)).account.second_factor_at is None
    assert await people.second_factor.state(principal) == off


async def test_a_wrong_password_says_nothing_of_the_second_factor(house: House) -> None:
    people = await house.open()
    app, _ = await switched_on(house, people, principal_of(people, await register(people)))
    for totp in (None, app.code()):
        wrong = people.sign_in.login(identifier="ada", password="wrong password", totp=totp)
        assert await refused(wrong) == (401, "wrong_credentials")
    assert await login(people, app.code())


async def test_no_code_is_good_twice_and_none_before_it(house: House) -> None:
    people = await house.open()
    app, _ = await switched_on(house, people, principal_of(people, await register(people)))
    earlier, used = app.code(), app.code(1)
    await login(people, used)
    for code in (used, earlier):
        assert await refused(login(people, code)) == (401, "wrong_totp")
    house.clock.advance(seconds=30)
    assert await refused(login(people, used)) == (401, "wrong_totp")
    await login(people, app.code(1))


async def test_codes_of_clocks_that_are_one_step_apart_and_no_more(house: House) -> None:
    people = await house.open()
    app, _ = await switched_on(house, people, principal_of(people, await register(people)))
    house.clock.advance(seconds=300)
    for steps in (-2, 2, 9):
        assert await refused(login(people, app.code(steps))) == (401, "wrong_totp")
    for steps in (-1, 0, 1):
        await login(people, app.code(steps))


@pytest.mark.parametrize("kind", ["code", "recovery code"])
async def test_of_two_who_use_one_at_once_one_gets_in(house: House, kind: str) -> None:
    people = await house.open()
    app, codes = await switched_on(house, people, principal_of(people, await register(people)))
    totp = app.code() if kind == "code" else codes[3]
    outcomes: list[str] = []

    async def sign_in() -> None:
        try:
            await login(people, totp)
        except UnauthenticatedError as error:
            outcomes.append(error.code)
        else:
            outcomes.append("in")

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(sign_in)
    assert sorted(outcomes) == ["in"] + ["wrong_totp"] * 3


async def test_recovery_codes_work_once_however_they_are_typed(house: House) -> None:
    people = await house.open(mail=True, portal_url="https://portal.example")
    principal = principal_of(people, await register(people))
    app, codes = await switched_on(house, people, principal)
    for typed in (codes[0], codes[1].upper(), codes[2].replace("-", " "), f" {codes[3].replace('-', '')} "):
        await login(people, typed)
        assert await refused(login(people, typed)) == (401, "wrong_totp")
    assert (await people.second_factor.state(principal)).recovery_codes_left == 6
    await login(people, f"{app.code()[:3]} {app.code()[3:]}")
    assert (await house.letters()).count("recovery_code_used") == 4
    renewed = await people.second_factor.renew_codes(principal, PASSWORD, codes[4], "")
    assert not set(renewed) & set(codes)
    assert await refused(login(people, codes[5])) == (401, "wrong_totp")
    await login(people, renewed[0])
    await people.second_factor.switch_off(principal, PASSWORD, renewed[1], "")
    told = ["verify_address", "second_factor_enabled", "recovery_codes_renewed", "second_factor_disabled"]
    assert [kind for kind in await house.letters() if kind != "recovery_code_used"] == told


async def test_nobody_guesses_codes_and_recovery_codes_go_on_working(house: House) -> None:
    people = await house.open(attempts_per_account=5)
    app, codes = await switched_on(house, people, principal_of(people, await register(people)))
    for _ in range(5):
        assert await refused(login(people, "000000", address="192.0.2.66")) == (401, "wrong_totp")
    # Elsewhere the password is good at once; for the code there is one count.
    assert await refused(login(people, app.code())) == (429, "too_many_requests")
    with pytest.raises(TooManyError) as caught:
        await login(people, app.code())
    assert (caught.value.retry_after or 0) > 60
    await login(people, codes[0])


async def test_what_is_asked_before_it_changes(house: House) -> None:
    people = await house.open()
    signed = await register(people)
    principal, factor = principal_of(people, signed), people.second_factor
    assert await refused(factor.begin(principal, "wrong password", "")) == (403, "wrong_password")
    assert await refused(factor.confirm(principal, "123456", "")) == (409, "totp_not_begun")
    assert await refused(factor.switch_off(principal, PASSWORD, "123456", "")) == (409, "totp_off")
    assert await refused(factor.renew_codes(principal, PASSWORD, "123456", "")) == (409, "totp_off")
    abandoned = App(house, (await factor.begin(principal, PASSWORD, "")).secret)
    app = App(house, (await factor.begin(principal, PASSWORD, "")).secret)
    assert await refused(factor.confirm(principal, abandoned.code(), "")) == (403, "wrong_totp")
    assert await refused(factor.confirm(principal, "abcd-efgh-ijkl-mnop", "")) == (403, "wrong_totp")
    codes = await factor.confirm(principal, app.code(-1), "")
    assert await refused(factor.begin(principal, PASSWORD, "")) == (409, "totp_on")
    assert await refused(factor.confirm(principal, app.code(), "")) == (409, "totp_on")
    for call in (factor.switch_off, factor.renew_codes):
        assert await refused(call(principal, "wrong password", app.code(), "")) == (403, "wrong_password")
        assert await refused(call(principal, PASSWORD, "000000", "")) == (403, "wrong_totp")
    # What was refused used nothing up.
    await factor.renew_codes(principal, PASSWORD, app.code(), "")
    assert await refused(factor.switch_off(principal, PASSWORD, codes[0], "")) == (403, "wrong_totp")


async def test_an_operator_who_must_have_one_is_a_customer_without_it(house: House) -> None:
    people = await house.open(operators_need_second_factor=True)
    await people.accounts.create(
        email="ada@example.com", username="ada", password=PASSWORD, role=Role.OPERATOR, plan=None
    )
    signed = await login(people)
    assert (await people.second_factor.state(principal_of(people, signed))).required
    assert principal_of(people, signed).role is Role.CUSTOMER
    app, _ = await switched_on(house, people, principal_of(people, signed))
    assert principal_of(people, signed).role is Role.OPERATOR
    await people.second_factor.switch_off(principal_of(people, signed), PASSWORD, app.code(), "")
    assert principal_of(people, signed).role is Role.CUSTOMER


async def test_the_store_holds_neither_secret_nor_codes(house: House) -> None:
    people = await house.open()
    principal = principal_of(people, await register(people))
    secret = (await people.second_factor.begin(principal, PASSWORD, "")).secret
    codes = await people.second_factor.confirm(principal, App(house, secret).code(), "")

    def everything(connection: sa.Connection) -> str:
        found = [connection.execute(sa.select(table)).all() for table in (second_factors, recovery_codes)]
        return repr(found).lower()

    kept = await house.database.run(everything)
    assert kept
    for word in (secret.lower(), *codes, *map(plain, codes)):
        assert word not in kept


async def test_a_second_factor_outlives_a_restart(house: House) -> None:
    people = await house.open()
    app, _ = await switched_on(house, people, principal_of(people, await register(people)))
    again = await house.open()
    await again.load()
    assert await refused(login(again)) == (401, "totp_required")
    await login(again, app.code())
    account = await house.database.run(rows.by_identifier, "ada")
    assert account is not None
    assert account.second_factor_at == house.clock()


@given(st.integers(0, 2**33), st.integers(-3, 3))
def test_matching_steps(seconds: int, apart: int) -> None:
    now, step = datetime.fromtimestamp(seconds, UTC), seconds // 30 + apart
    if step < 0:
        return
    matching = matching_steps(SECRET, pyotp.TOTP(SECRET).generate_otp(step), now)
    assert (step in matching) is (abs(apart) <= 1)


def test_rfc_6238_and_what_is_no_code() -> None:
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # its appendix B, cut to six digits
    assert matching_steps(secret, "287082", datetime.fromtimestamp(59, UTC)) == [1]
    assert matching_steps(secret, "081804", datetime.fromtimestamp(1111111109, UTC)) == [1111111109 // 30]
    for nonsense in ("", "28708", "2870821"):
        assert matching_steps(secret, nonsense, datetime.fromtimestamp(59, UTC)) == []


def test_recovery_codes_look_like_what_they_are() -> None:
    codes = new_recovery_codes()
    assert len({recovery_hash(code) for code in codes}) == 10
    for code in codes:
        assert [len(part) for part in code.split("-")] == [4, 4, 4, 4]
        assert recovery_hash(code.upper().replace("-", " ")) == recovery_hash(code)


async def test_a_fullwidth_code_is_no_code(house: House) -> None:
    people = await house.open()
    await switched_on(house, people, principal_of(people, await register(people)))
    for odd in ("\uff11\uff12\uff13\uff14\uff15\uff16", "\u0661\u0662\u0663\u0664\u0665\u0666", "²³¹²³¹", "-" * 64):
        with pytest.raises(UnauthenticatedError):
            await login(people, odd)


async def test_confirming_is_limited_too(house: House) -> None:
    people = await house.open(attempts_per_account=3)
    principal = principal_of(people, await register(people))
    await people.second_factor.begin(principal, PASSWORD, "")
    for _ in range(3):
        with pytest.raises(ForbiddenError):
            await people.second_factor.confirm(principal, "000000", "")
    with pytest.raises(TooManyError):
        await people.second_factor.confirm(principal, "000000", "")


async def test_taken_away_by_an_operator(house: House) -> None:
    people = await house.open()
    principal = principal_of(people, await register(people))
    await switched_on(house, people, principal)
    await house.database.run(stored.switch_off, principal.account_id)
    assert await login(people)
    with pytest.raises(ConflictError):
        await people.second_factor.switch_off(principal, PASSWORD, "123456", "")


async def test_a_password_that_changes_meanwhile_is_no_proof(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    people = await house.open()
    principal = principal_of(people, await register(people))
    app, _ = await switched_on(house, people, principal)
    again = people.proof.again

    async def then_changed(account_id: int, password: str, address: str) -> Account:
        proven = await again(account_id, password, address)
        await house.database.run(rows.set_password_hash, account_id, "another")
        return proven

    monkeypatch.setattr(people.proof, "again", then_changed)
    off = people.second_factor.switch_off(principal, PASSWORD, app.code(), "")
    assert await refused(off) == (409, "password_changed")
    assert (await people.second_factor.state(principal)).since is not None


async def test_who_has_but_an_access_token_keeps_nobody_from_signing_in(house: House) -> None:
    people = await house.open(attempts_per_account=3)
    principal = principal_of(people, await register(people, address="192.0.2.1"))
    app, _ = await switched_on(house, people, principal)
    for _ in range(3):
        assert await refused(people.second_factor.confirm(principal, "000000", "192.0.2.66")) == (409, "totp_on")
        off = people.second_factor.switch_off(principal, "wrong password", "000000", "192.0.2.66")
        assert await refused(off) == (403, "wrong_password")
    with pytest.raises(TooManyError):
        await people.second_factor.confirm(principal, "000000", "192.0.2.66")
    assert await login(people, app.code(), address="192.0.2.1")
