"""What a machine grants, read from its mounts, and what an instance is given of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator import cgroups
from orchestrator.cgroups import Groups, Ladder, Limits
from orchestrator.errors import SpawnError

MARKER = "key/web.web@1/3"


class Machine:
    """The files that a kernel shows of its control groups, below a directory of ours."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.own = root / "self"
        self.own.mkdir()
        self.mounts: list[str] = []
        self.paths: list[str] = []

    def unified(self, path: str, *, root: str = "/") -> Path:
        mount = self.root / "v2"
        mount.mkdir()
        self.mounts.append(f"30 20 0:1 {root} {mount} rw - cgroup2 cgroup2 rw")
        self.paths.append(f"0::{path}")
        return mount

    def legacy(self, words: str, path: str = "/") -> Path:
        mount = self.root / words
        mount.mkdir()
        self.mounts.append(f"31 20 0:2 / {mount} rw - cgroup cgroup rw,{words}")
        self.paths.append(f"4:{words}:{path}")
        return mount

    def find(self) -> Ladder:
        (self.own / "mountinfo").write_text("\n".join(self.mounts) + "\n")
        (self.own / "cgroup").write_text("\n".join(self.paths) + "\n")
        return cgroups.find(self.own)


def group(directory: Path, *, controllers: str = "", enabled: str = "") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cgroup.procs").write_text("")
    (directory / "cgroup.controllers").write_text(controllers)
    (directory / "cgroup.subtree_control").write_text(enabled)
    return directory


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# ------------------------------------------------------------------ what is granted


def test_a_machine_without_control_groups_grants_none(machine: Machine) -> None:
    ladder = machine.find()
    assert (ladder.unified, ladder.legacy, ladder.delegated) == ("", {}, frozenset())
    assert ladder.missing["memory"] == "no cgroup hierarchy is mounted"
    assert [ladder.way(word) for word in cgroups.CONTROLLERS] == ["", "", ""]


def test_the_nearest_group_with_the_most_controllers_takes_ours(machine: Machine) -> None:
    mount = machine.unified("/user/app/shell")
    group(mount, controllers="cpu memory pids", enabled="cpu memory pids")
    group(mount / "user", controllers="memory pids", enabled="memory pids")
    app = group(mount / "user/app", controllers="memory pids", enabled="memory pids")
    group(app / "shell")
    (mount / "cgroup.procs").chmod(0o444)
    ladder = machine.find()
    if os.geteuid() == 0:  # who may write to anything
        assert ladder.unified == str(mount)
    else:
        assert ladder.unified == str(app)
        assert ladder.delegated == {"memory", "pids"}


def test_a_hierarchy_without_controllers_still_holds_a_tree_together(machine: Machine) -> None:
    mount = group(machine.unified("/"))
    memory = machine.legacy("memory", "/box")
    (memory / "box").mkdir()
    machine.legacy("cpu,cpuacct")
    ladder = machine.find()
    assert ladder.unified == str(mount)
    assert ladder.legacy == {
        "memory": str(memory / "box"),
        "cpu": str(machine.root / "cpu,cpuacct"),
    }
    assert [ladder.way(word) for word in cgroups.CONTROLLERS] == ["cgroup v1", "cgroup v1", ""]
    assert ladder.missing == {"pids": "the kernel has no cgroup controller pids here"}


def test_a_controller_that_is_there_and_not_ours_says_what_would_help(machine: Machine) -> None:
    group(machine.unified("/"), controllers="cpu memory pids")
    why = machine.find().missing["memory"]
    # Enabling it is refused, here because the file is no kernel's.
    assert "not delegated" in why
    assert "systemd-run" in why


def test_a_mount_that_shows_a_part_of_the_hierarchy_is_understood(machine: Machine) -> None:
    mount = machine.unified("/docker/abc/inner", root="/docker/abc")
    group(mount)
    inner = group(mount / "inner", controllers="pids", enabled="pids")
    assert machine.find().unified == str(inner)


def test_a_group_outside_of_what_is_mounted_is_none(machine: Machine) -> None:
    group(machine.unified("/elsewhere", root="/docker/abc"))
    assert machine.find().unified == ""


# ------------------------------------------------------------------ what is given


def test_limits_are_written_as_version_2_has_them(tmp_path: Path) -> None:
    own = tmp_path / "orch-key" / "web.web@1.3"
    own.mkdir(parents=True)
    files = ("memory.max", "memory.swap.max", "cpu.max", "pids.max", "cgroup.procs")
    for name in files:
        (own / name).write_text("")
    groups = Groups(Ladder(str(tmp_path), frozenset(cgroups.CONTROLLERS)), "key")
    placement = groups.make(MARKER, Limits(memory=1 << 20, cpu=1.5, pids=9), None)
    assert placement.joins == (f"{own}/cgroup.procs",)
    assert placement.rlimits == {}
    written = [(own / name).read_text() for name in files]
    assert written == ["1048576", "0", "150000 100000", "9", ""]


def test_a_kill_is_one_write_where_there_is_one(tmp_path: Path) -> None:
    own = tmp_path / "orch-key" / "web.web@1.3"
    own.mkdir(parents=True)
    (own / "cgroup.kill").write_text("")
    groups = Groups(Ladder(str(tmp_path)), "key")
    assert groups.has(MARKER)  # an earlier daemon has made it
    assert groups.kill(MARKER)
    assert (own / "cgroup.kill").read_text() == "1"
    assert not groups.kill("key/web.web@1/4")


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("memory.events", "low 0\noom 2\noom_kill 1\n", True),
        ("memory.events", "low 0\noom 2\noom_kill 0\n", False),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", True),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 1\noom_kill 0\n", False),
    ],
)
def test_a_kill_for_want_of_memory_is_found(
    tmp_path: Path, file: str, text: str, found: bool
) -> None:
    own = tmp_path / "orch-key" / "web.web@1.3"
    own.mkdir(parents=True)
    (own / file).write_text(text)
    assert Groups(Ladder(str(tmp_path)), "key").out_of_memory(MARKER) is found


def test_memory_falls_back_to_address_space() -> None:
    placement = Groups(Ladder(), "key").make(MARKER, Limits(memory=4096), None)
    assert placement.joins == ()
    assert placement.rlimits == {"as": (4096, 4096)}


def test_the_number_of_processes_falls_back_for_another_user_only() -> None:
    groups = Groups(Ladder(missing={"pids": "there is none"}), "key")
    placement = groups.make(MARKER, Limits(pids=7), "somebody")
    assert placement.rlimits == {"nproc": (7, 7)}
    with pytest.raises(SpawnError, match=r"cannot limit pids to 7: there is none; a `user`"):
        groups.make(MARKER, Limits(pids=7), None)


def test_what_cannot_be_had_names_what_is_missing() -> None:
    groups = Groups(Ladder(missing={"cpu": "there is none"}), "key")
    with pytest.raises(SpawnError, match=r"cannot limit cpu to 0\.5: there is none") as caught:
        groups.make(MARKER, Limits(cpu=0.5), None)
    assert not caught.value.transient
    assert not groups.has(MARKER)


def test_a_group_that_cannot_be_made_says_which(tmp_path: Path) -> None:
    groups = Groups(Ladder(str(tmp_path / "gone"), frozenset({"pids"})), "key")
    with pytest.raises(SpawnError, match=r"cannot make the control group '.*web\.web@1\.3'"):
        groups.make(MARKER, Limits(pids=7), None)


def test_what_belongs_to_nobody_is_removed(tmp_path: Path) -> None:
    home = tmp_path / "orch-key"
    for name in ("web.web@1.2", "web.web@1.3", "gone.gone@1.1"):
        (home / name).mkdir(parents=True)
    groups = Groups(Ladder(str(tmp_path)), "key")
    groups.keep_only([MARKER])
    assert [path.name for path in home.iterdir()] == ["web.web@1.3"]
    groups.dismiss(MARKER)
    groups.close()
    assert list(tmp_path.iterdir()) == []
