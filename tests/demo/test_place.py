from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from zlh.demo.place import PlaceError, open_place


def test_a_second_run_finds_the_same(tmp_path: Path) -> None:
    with open_place(tmp_path, reset=False, port=0) as first:
        assert (tmp_path / "demo.json").stat().st_mode & 0o077 == 0
    with open_place(tmp_path, reset=False, port=0) as second:
        assert second.secrets.customer_password == first.secrets.customer_password
        assert second.network == first.network
    with open_place(tmp_path, reset=True, port=0) as third:
        assert third.secrets.customer_password != first.secrets.customer_password


def test_one_demo_at_a_time(tmp_path: Path) -> None:
    with (
        open_place(tmp_path, reset=False, port=0),
        pytest.raises(PlaceError, match="is running"),
        open_place(tmp_path, reset=True, port=0),
    ):
        pass


def test_reset_touches_only_what_is_the_demos(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "left").touch()
    with open_place(tmp_path, reset=True, port=0):
        assert (tmp_path / "thesis.txt").exists()
        assert not (tmp_path / "agents").exists()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PlaceError, match=f"port {port} is in use"), open_place(tmp_path, reset=False, port=port):
            pass


def test_two_demos_have_addresses_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with open_place(tmp_path / "one", reset=False, port=0) as one, socket.socket() as proxmox:
        proxmox.bind((one.proxmox_host, 8006))
        proxmox.listen()
        # The same folder's name asks for the same addresses; they are taken by now.
        (tmp_path / "one" / "demo.json").unlink()
        (tmp_path / "one" / "demo.lock").unlink()
        with open_place(tmp_path / "one", reset=False, port=0) as other:
            assert other.network != one.network


def test_a_file_of_another_version(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text('{"users": 3}')
    with pytest.raises(PlaceError, match="--reset"), open_place(tmp_path, reset=False, port=0):
        pass


def test_a_file_of_before_gets_what_is_new(tmp_path: Path) -> None:
    with open_place(tmp_path, reset=False, port=0) as first:
        kept = json.loads((tmp_path / "demo.json").read_text())
    new = {"newcomer_password", "stripe_key", "stripe_webhook_secret", "stripe_port"}
    (tmp_path / "demo.json").write_text(json.dumps({key: kept[key] for key in kept.keys() - new}))
    with open_place(tmp_path, reset=False, port=0) as second:
        assert second.secrets.customer_password == first.secrets.customer_password
        assert all(getattr(second.secrets, key) for key in new)
    with open_place(tmp_path, reset=False, port=0) as third:
        # Pages that are open in a browser lead to the same place.
        assert {key: getattr(third.secrets, key) for key in new} == {key: getattr(second.secrets, key) for key in new}
