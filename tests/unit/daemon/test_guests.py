"""Sockets for components of another user: made as they are to be, and removed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.daemon import guests
from orchestrator.daemon.guests import Guests
from orchestrator.daemon.programs import Place
from orchestrator.daemon.store import Store
from orchestrator.errors import SpawnError
from tests import fakes

pytestmark = pytest.mark.root

UID = 65533


class Made:
    """Guests in directories of a test's own, and what they have others read."""

    def __init__(self, path: Path) -> None:
        runtime = path / "run"
        runtime.mkdir(mode=0o700)
        self.place = Place("k1", "shop", str(runtime), str(path / "base"))
        self.conf = path / "base" / "conf" / "shop-web"
        self.conf.mkdir(parents=True)
        (self.conf / "config.json").write_text("{}")
        self.heard: list[socket.socket] = []
        store = Store(runtime / "store.sock")
        self.guests = Guests(self.place, store, self.heard.append, self.heard.remove)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    class Entry:
        pw_uid = pw_gid = UID

    monkeypatch.setattr(guests, "ROOT", tmp_path / "shared")
    monkeypatch.setattr("pwd.getpwnam", lambda name: {"ann": Entry, "root": Root}[name])
    made = Made(tmp_path)
    yield made
    made.guests.close()


class Root:
    pw_uid = pw_gid = 0


def test_nothing_is_made_for_the_daemons_own_user(made: Made) -> None:
    for user in (None, "root", "nobody-knows"):
        assert made.guests.prepare(fakes.component("shop.web", user=user)) is None
    assert not made.guests.root.exists()


def test_a_user_has_one_notify_socket_that_is_his(made: Made) -> None:
    for name in ("shop.web", "shop.other"):
        made.guests.prepare(fakes.component(name, user="ann"))
    notify = made.guests.root / f"{UID}.notify"
    found = notify.stat()
    assert (found.st_uid, found.st_mode & 0o777) == (UID, 0o600)
    assert made.guests.root.stat().st_mode & 0o777 == 0o711
    (heard,) = made.heard
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"READY=1", str(notify))
    data, ancillary, _, _ = heard.recvmsg(100, 100)
    assert data == b"READY=1"
    assert ancillary
    made.guests.close()
    assert not made.guests.root.exists()
    assert not made.heard


def test_a_handler_finds_its_link_and_its_configuration(made: Made) -> None:
    web = fakes.component("shop.web", user="ann", command=(), handler="web.py")
    paths = made.guests.prepare(web)
    assert paths is not None
    link = Path(made.place.runtime_dir) / "link" / "shop-web"
    assert str(link.readlink()) == paths.link
    assert link.lstat().st_uid == UID
    config = made.conf / "config.json"
    assert (config.stat().st_uid, config.stat().st_gid) == (0, UID)


def test_a_directory_of_somebody_else_is_not_used(made: Made) -> None:
    made.guests.root.mkdir(parents=True)
    os.chown(made.guests.root, UID, UID)
    with pytest.raises(SpawnError, match="belongs to another"):
        made.guests.prepare(fakes.component("shop.web", user="ann"))


def test_what_the_keeper_held_is_read_on(made: Made) -> None:
    made.guests.prepare(fakes.component("shop.web", user="ann"))
    (before,) = made.heard
    store = Store(Path(made.place.runtime_dir) / "store.sock")
    heard: list[socket.socket] = []
    after = Guests(made.place, store, heard.append, heard.remove)
    after.recover({f"notify/{UID}": before.dup()})
    after.prepare(fakes.component("shop.web", user="ann"))
    assert len(heard) == 1
    after.close()
