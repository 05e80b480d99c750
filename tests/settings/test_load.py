from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from zlh.settings import Settings, SettingsError, load_games, load_plans, load_settings

CONFIG = Path(__file__).parents[2] / "config"


def problems(path: Path | None, **environ: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load_settings(path, environ)
    return caught.value.problems


def test_defaults_need_no_file() -> None:
    assert load_settings(None, {}) == Settings()


def test_the_shipped_file_holds_the_defaults() -> None:
    assert load_settings(CONFIG / "zlh.toml", {}) == Settings()


def test_environment_wins_over_file_and_is_typed(tmp_path: Path) -> None:
    file = tmp_path / "zlh.toml"
    file.write_text('[server]\nport = 1\nhost = "::1"\n')
    settings = load_settings(
        file,
        {
            "ZLH_SERVER_PORT": "9000",
            "ZLH_CONTAINERS_GAME_VMIDS": "100, 199",
            "ZLH_PROXMOX_NODES": "a,b",
            "ZLH_LOG_JSON": "yes",
            "ZLH_SERVER_SHUTDOWN_SECONDS": "2",
            "ZLH_PYTHON": "python3.11",
            "ZLH_SOMETHING_ELSE_ALTOGETHER": "x",
        },
    )
    assert (settings.server.port, settings.server.host) == (9000, "::1")
    assert settings.containers.game_vmids == (100, 199)
    assert settings.proxmox.nodes == ("a", "b")
    assert settings.log.json is True
    assert settings.server.shutdown_seconds == 2.0


def test_every_problem_is_listed_with_file_and_key(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(
        "[polling]\nmises = 3\nmisses = true\ntick_ms = 0\n"
        '[server]\nport = "80"\nallowed_origins = ["portal"]\n[sever]\n[containers]\ngame_vmids = [5]\n'
    )
    found = "\n".join(problems(file, ZLH_POLLING_RUNING_SECONDS="5", ZLH_LOG_LEVEL="loud"))
    assert f"{file}: [polling] mises: unknown, did you mean misses?" in found
    assert "[polling] misses: a whole number expected, true or false found" in found
    assert "[polling] tick_ms: 0 is less than 1" in found
    assert "[server] port: a whole number expected, a text found" in found
    assert "[server] allowed_origins: 'portal'" in found
    assert "[sever]: unknown, did you mean server?" in found
    assert "[containers] game_vmids: 2 items expected, 1 found" in found
    assert "ZLH_POLLING_RUNING_SECONDS: unknown, did you mean ZLH_POLLING_RUNNING_SECONDS?" in found
    assert "ZLH_LOG_LEVEL: 'loud' is none of debug" in found


def test_secrets_come_from_files_and_are_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cr3t\n")
    settings = load_settings(None, {"ZLH_PROXMOX_TOKEN_ID": "a@pve!b", "ZLH_PROXMOX_TOKEN_SECRET_FILE": str(secret)})
    assert settings.proxmox.token_secret == "s3cr3t"
    assert "s3cr3t" not in repr(settings)


def test_a_secret_and_its_file_exclude_each_other(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    assert "one of the two" in problems(None, ZLH_DATABASE_URL="postgresql://a", ZLH_DATABASE_URL_FILE=str(secret))[0]
    secret.write_text("\n")
    assert "is empty" in problems(None, ZLH_DATABASE_URL_FILE=str(secret))[0]
    assert "No such file" in problems(None, ZLH_DATABASE_URL_FILE=str(tmp_path / "none"))[0]


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"ZLH_PROXMOX_TOKEN_ID": "x"}, "token_id and token_secret belong together"),
        ({"ZLH_PROXMOX_PASSWORD": "x"}, "username and password belong together"),
        ({"ZLH_CONTAINERS_DEV_VMIDS": "5500,6000"}, "overlap"),
        ({"ZLH_CONTAINERS_GAME_TEMPLATES": "5000"}, "template 5000 lies in a vmid range"),
        ({"ZLH_CONTAINERS_ADDRESS_POOL": "10.0.0.9-10.0.0.1"}, "the range is empty"),
        ({"ZLH_PROXMOX_URL": "pve:8006"}, "http:// or https://"),
        ({"ZLH_SERVER_TRUSTED_PROXIES": "proxy"}, "not an address or network"),
    ],
)
def test_contradictions(environ: dict[str, str], sentence: str) -> None:
    assert sentence in "\n".join(problems(None, **environ))


@pytest.mark.parametrize("content", ["[server", "\udcff", "server = 1"])
def test_a_broken_file_is_one_clear_problem(tmp_path: Path, content: str) -> None:
    file = tmp_path / "zlh.toml"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert len(problems(file)) == 1
    assert len(problems(tmp_path / "absent.toml")) == 1


def test_the_production_example_names_only_known_keys() -> None:
    found = problems(CONFIG / "production.example.toml")
    assert all("cannot be read" in problem or "belong together" in problem for problem in found), found


def test_plans() -> None:
    plans = load_plans(CONFIG / "plans.toml")
    assert plans["starter"].games == 1
    assert plans["starter"].defaults.memory_mib == 2048


def test_a_plan_must_be_complete(tmp_path: Path) -> None:
    file = tmp_path / "plans.toml"
    file.write_text("[p]\ngames = 1\ndefaults = { memory_mib = 1 }\nmemory = 3\n")
    with pytest.raises(SettingsError) as caught:
        load_plans(file)
    text = str(caught.value)
    assert "[p] devs: missing" in text
    assert "[p.defaults] cpu_cores: missing" in text
    assert "[p] memory: unknown" in text


def test_the_shipped_file_explains_every_key() -> None:
    lines = (CONFIG / "zlh.toml").read_text().splitlines()
    section, explained = "", set()
    for line in lines:
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line and not line.startswith("#"):
            assert "  # " in line, f"no why: {line}"
            explained.add((section, line.split("=")[0].strip()))
    known = {
        (section.name, item.name)
        for section in dataclasses.fields(Settings)
        for item in dataclasses.fields(getattr(Settings(), section.name))
    }
    assert explained == known


@pytest.mark.parametrize("text", ["[minecraft", "[minecraft]\nports = [0]\n", "\xff"])
def test_bad_games(tmp_path: Path, text: str) -> None:
    file = tmp_path / "games.toml"
    file.write_text(text, "latin1")
    with pytest.raises(SettingsError) as caught:
        load_games(file)
    assert all(str(file) in problem for problem in caught.value.problems)


def test_a_database_that_is_no_postgresql(tmp_path: Path) -> None:
    named = tmp_path / "url"
    named.write_text("mysql://u:s3cr3t@db/zlh")
    for environ in ({"ZLH_DATABASE_URL": "s3cr3t"}, {"ZLH_DATABASE_URL_FILE": str(named)}):
        found = "\n".join(problems(None, **environ))
        assert "a postgresql:// address expected" in found
        assert "s3cr3t" not in found
    assert problems(None, ZLH_PROXMOX_URL="https://[pve") == ("ZLH_PROXMOX_URL: Invalid IPv6 URL",)
