from __future__ import annotations

from zlh.wire.browsers import SAFETY, cors_fields, safety_fields
from zlh.wire.http import build_fields, build_response


def test_https_only_where_it_is_https() -> None:
    for plain in ("", "http://api.example", "http://https.example"):
        assert safety_fields(plain) == list(SAFETY)
    for secure in ("https://api.example", "HTTPS://api.example"):
        assert (b"strict-transport-security", b"max-age=31536000") in safety_fields(secure)


def test_no_answer_invites_the_browsers_own_credentials() -> None:
    names = {name for name, _ in (*SAFETY, *cors_fields(b"https://portal.example"))}
    assert b"access-control-allow-credentials" not in names
    assert b"*" not in dict(cors_fields(b"https://portal.example")).values()


def test_prebuilt_fields_are_fields() -> None:
    more = [(b"a", b"1")]
    prebuilt = build_response(200, more, prebuilt=build_fields(SAFETY))
    assert prebuilt == build_response(200, [*SAFETY, *more])
