"""Files written whole or not at all, private where they must be."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from orchestrator import files
from orchestrator.config import paths
from orchestrator.config.build import File
from orchestrator.errors import OrchestratorError

TREE = (File("a/one.json", "1\n"), File("a/two.json", "2\n", 0o600), File("top", "t\n"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_tree_is_written_with_its_modes_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        changes = files.write_tree(tmp_path / "out", TREE)
    finally:
        os.umask(before)
    assert changes == files.Changes(("a/one.json", "a/two.json", "top"), (), ())
    assert (tmp_path / "out/a/one.json").read_text() == "1\n"
    assert mode(tmp_path / "out/a/one.json") == 0o640
    assert mode(tmp_path / "out/a/two.json") == 0o600


def test_what_is_unchanged_keeps_its_time(tmp_path: Path) -> None:
    files.write_tree(tmp_path, TREE)
    for path in (tmp_path / "a/one.json", tmp_path / "top", tmp_path / files.MANIFEST):
        os.utime(path, ns=(5, 5))
    changes = files.write_tree(
        tmp_path, (File("a/one.json", "1\n"), File("top", "new\n"), TREE[1])
    )
    assert changes == files.Changes(("top",), ("a/one.json", "a/two.json"), ())
    assert (tmp_path / "a/one.json").stat().st_mtime_ns == 5
    assert (tmp_path / files.MANIFEST).stat().st_mtime_ns == 5
    assert (tmp_path / "top").read_text() == "new\n"


def test_a_wrong_mode_is_mended(tmp_path: Path) -> None:
    files.write_tree(tmp_path, TREE)
    (tmp_path / "a/two.json").chmod(0o644)
    assert files.write_tree(tmp_path, TREE).written == ("a/two.json",)
    assert mode(tmp_path / "a/two.json") == 0o600


def test_stale_files_go_and_strangers_stay(tmp_path: Path) -> None:
    files.write_tree(tmp_path, TREE)
    (tmp_path / "a/mine").write_text("x")
    files.write_tree(tmp_path, (*TREE, File("b/c/deep", "x")))
    changes = files.write_tree(tmp_path, TREE[2:])
    assert set(changes.removed) == {"a/one.json", "a/two.json", "b/c/deep"}
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        files.MANIFEST,
        "a",
        "mine",
        "top",
    ]


@pytest.mark.parametrize(
    "text", ["nonsense", "[]", '{"files": 5}', '{"files": ["../x", "/etc/x", 7, ""]}']
)
def test_a_broken_manifest_removes_nothing(tmp_path: Path, text: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "x").write_text("keep")
    (root / files.MANIFEST).write_text(text)
    assert files.write_tree(root, TREE).removed == ()
    assert (tmp_path / "x").exists()


def test_no_temporary_file_is_left(tmp_path: Path) -> None:
    files.write_tree(tmp_path, TREE)
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".new")]


def test_a_tree_is_compared_without_being_touched(tmp_path: Path) -> None:
    files.write_tree(tmp_path, TREE)
    assert files.compare_tree(tmp_path, TREE) == ()
    wanted = (File("a/one.json", "changed\n"), File("b", "new\n"), TREE[2])
    found = {one.path: one for one in files.compare_tree(tmp_path, wanted)}
    assert {path: one.kind for path, one in found.items()} == {
        "a/one.json": "changed",
        "b": "missing",
        "a/two.json": "stale",
    }
    assert found["a/one.json"].diff.splitlines() == [
        "--- built/a/one.json",
        "+++ wanted/a/one.json",
        "@@ -1 +1 @@",
        "-1",
        "+changed",
    ]
    assert files.compare_tree(tmp_path, TREE) == ()


def test_a_directory_that_is_not_there_lacks_everything(tmp_path: Path) -> None:
    assert [one.kind for one in files.compare_tree(tmp_path / "no", TREE)] == ["missing"] * 3


def test_a_full_disk_names_the_file_and_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(files.FileError, match="no space left on device; free some") as caught:
            files.write_atomic(path, b"new")
    assert str(path) in str(caught.value)
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_file_where_a_directory_must_be_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(OrchestratorError, match=r"cannot make the directory .*a: .*file stands"):
        files.write_tree(tmp_path, TREE)


def test_a_directory_where_a_file_must_be_is_explained(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    with pytest.raises(OrchestratorError, match=r"cannot (read|write) .*top"):
        files.write_tree(tmp_path, TREE)


def test_long_data_is_written_and_read_whole(tmp_path: Path) -> None:
    text = "x" * 3_000_000
    files.write_tree(tmp_path, (File("big", text),))
    assert files.write_tree(tmp_path, (File("big", text),)).unchanged == ("big",)


def test_a_private_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = files.private_dir(tmp_path / "run" / "orch" / "key")
    assert [mode(one) for one in (path, path.parent, path.parent.parent)] == [0o700] * 3
    assert files.private_dir(path) == path


def test_a_directory_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(OrchestratorError, match="chmod 700"):
        files.private_dir(tmp_path / "open")


def test_a_link_is_no_private_directory(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(OrchestratorError, match="no directory"):
        files.private_dir(tmp_path / "link")


def test_another_users_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files.private_dir(tmp_path / "mine")
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    with pytest.raises(OrchestratorError, match="belongs to user"):
        files.private_dir(path)


@pytest.mark.root
def test_a_directory_within_another_users_is_refused(tmp_path: Path) -> None:
    path = files.private_dir(tmp_path / "root" / "orch" / "key")
    os.chown(path.parent.parent, 4711, -1)
    with pytest.raises(OrchestratorError, match="/root belongs to user 4711"):
        files.private_dir(path)


def test_the_runtime_directory_follows_xdg(tmp_path: Path) -> None:
    topology = tmp_path / "topology.yaml"
    given = paths.runtime_dir(topology, None, {"XDG_RUNTIME_DIR": "/run/user/1"})
    assert str(given).startswith("/run/user/1/orch/")
    fallback = paths.runtime_dir(topology, "p", {})
    assert str(fallback).startswith(f"/tmp/orch-{os.getuid()}/orch/")
    assert fallback.name != given.name


def test_a_note_is_read_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("712\n", encoding="utf-8")
    assert files.read_note(tmp_path / "lock").strip() == "712"
    assert files.read_note(tmp_path / "none") == ""


def test_a_copy_has_the_mode_and_time_of_its_source(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"x" * 600_000)
    source.chmod(0o751)
    os.utime(source, ns=(10**18, 10**18 + 7))
    files.copy(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode == source.stat().st_mode
    assert target.stat().st_mtime_ns == 10**18 + 7


def test_a_named_pipe_is_not_copied(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="named pipe"):
        files.copy(tmp_path / "pipe", tmp_path / "b")
    assert not (tmp_path / "b").exists()
