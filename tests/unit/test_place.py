"""Where a system's daemon is: in the usual place, or where the lock of its directory says."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from orchestrator.client import place
from orchestrator.config import paths


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Make a folder with a topology, whose daemon was started with `tmp_path/run`."""
    folder = tmp_path / "shop"
    (folder / ".orch").mkdir(parents=True)
    (folder / "topology.yaml").write_text("version: 1\n")
    run(folder, tmp_path / "run")
    return folder


def run(folder: Path, root: Path) -> Path:
    """Make what a daemon of the folder makes; return its directory of sockets."""
    topology = folder / "topology.yaml"
    directory = paths.runtime_dir(topology, None, {"XDG_RUNTIME_DIR": str(root)})
    directory.mkdir(parents=True)
    (directory / "control.sock").touch()
    note(folder / ".orch" / "orch.lock", directory, topology)
    return directory


def note(lock: Path, directory: Path, topology: Path) -> None:
    lock.touch()
    lock.write_text(f"712\n{directory}\n{topology}\n{lock.stat().st_ino}\n")


def find(folder: Path, root: Path) -> place.Place:
    return place.find(folder / "topology.yaml", environment={"XDG_RUNTIME_DIR": str(root)})


def test_the_usual_place_needs_no_note(world: Path, tmp_path: Path) -> None:
    (world / ".orch" / "orch.lock").unlink()
    assert find(world, tmp_path / "run").is_usual


def test_a_daemon_with_another_runtime_directory_is_found(world: Path, tmp_path: Path) -> None:
    found = find(world, tmp_path / "other")
    assert found.runtime_dir.parent.parent == tmp_path / "run"
    assert not found.is_usual
    assert not found.moved_from


def test_one_that_is_there_counts_more_than_a_note(world: Path, tmp_path: Path) -> None:
    directory = find(world, tmp_path / "run").runtime_dir
    here = run(world, tmp_path / "other")
    note(world / ".orch" / "orch.lock", directory, world / "topology.yaml")
    assert find(world, tmp_path / "other").runtime_dir == here


def test_the_daemon_of_a_folder_that_was_moved_is_found(world: Path, tmp_path: Path) -> None:
    moved = world.rename(tmp_path / "moved")
    found = find(moved, tmp_path / "run")
    assert found.moved_from == str(world / "topology.yaml")
    assert (found.runtime_dir / "control.sock").exists()


def test_a_copy_of_a_folder_is_another_system(world: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(world, copy)
    shutil.rmtree(world)
    assert find(copy, tmp_path / "run").is_usual


def test_a_directory_that_another_topology_has_chosen_is_not_ours(
    world: Path, tmp_path: Path
) -> None:
    other = world / "other.yaml"
    other.touch()
    environment = {"XDG_RUNTIME_DIR": str(tmp_path / "run")}
    directory = paths.runtime_dir(other, None, environment)
    directory.mkdir(parents=True)
    (directory / "control.sock").touch()
    note(world / ".orch" / "orch.lock", directory, other)
    assert find(world, tmp_path / "elsewhere").is_usual


@pytest.mark.parametrize("text", ["", "712\n", "712\n\n\n\n", "\0\n\0\n\0\n\0\n"])
def test_a_note_that_says_nothing_leads_nowhere(world: Path, tmp_path: Path, text: str) -> None:
    (world / ".orch" / "orch.lock").write_text(text)
    assert find(world, tmp_path / "other").is_usual


def test_a_daemon_that_is_gone_is_not_looked_for(world: Path, tmp_path: Path) -> None:
    (find(world, tmp_path / "run").runtime_dir / "control.sock").unlink()
    assert find(world, tmp_path / "other").is_usual


@pytest.mark.parametrize("name", ["shop.yaml", "größe 1.v2.yaml", "it's; $HOME.yaml"])
def test_the_command_that_starts_it_can_be_typed(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    found = place.find(file, "a b", {"XDG_RUNTIME_DIR": str(tmp_path)})
    assert shlex.split(found.starter) == ["orch", "-f", str(file), "-p", "a b", "up", "-d"]
