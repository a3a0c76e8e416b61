"""Watched files on a loop of our own: real notices of the kernel, time that the test makes."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from orchestrator.daemon import watching
from orchestrator.daemon.watching import LONGEST, QUIET, Watcher


@dataclass
class Timer:
    when: float
    call: Callable[[], None]
    is_over: bool = False

    def cancel(self) -> None:
        self.is_over = True


@dataclass
class Loop:
    """The little of an event loop that a watcher uses, in virtual time."""

    now: float = 100.0
    readers: dict[int, Callable[[], None]] = field(default_factory=dict)
    timers: list[Timer] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def add_reader(self, fd: int, call: Callable[[], None]) -> None:
        self.readers[fd] = call

    def remove_reader(self, fd: int) -> None:
        del self.readers[fd]

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(when, call))
        return self.timers[-1]

    def advance(self, seconds: float = 0.0) -> None:
        """Take what the kernel says, and let time pass."""
        for fd in select.select([*self.readers], [], [], 0)[0]:
            self.readers[fd]()
        self.now += seconds
        for timer in list(self.timers):
            if not timer.is_over and timer.when <= self.now:
                timer.is_over = True
                timer.call()


class World:
    """A watcher, its loop, and what it has told."""

    def __init__(self, directory: Path) -> None:
        self.loop = Loop()
        self.source = directory / "src"
        self.source.mkdir()
        self.told: list[Mapping[str, frozenset[str]]] = []
        self.watcher = Watcher(
            cast("asyncio.AbstractEventLoop", self.loop),
            str(self.source / ".orch"),
            self.told.append,
        )

    def follow(self, who: str, *patterns: str) -> None:
        self.watcher.follow(who, tuple(f"{self.source}/{pattern}" for pattern in patterns))

    def write(self, name: str, text: str = "") -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text or f"at {self.loop.now} {len(self.told)}", encoding="utf-8")
        return path

    def news(self) -> dict[str, set[str]]:
        """Let a burst be over; return who was told of which files since last asked."""
        self.loop.advance(QUIET)
        self.loop.advance(QUIET)
        found: dict[str, set[str]] = {}
        for told in self.told:
            for who, paths in told.items():
                names = {str(Path(path).relative_to(self.source)) for path in paths}
                found.setdefault(who, set()).update(names)
        self.told.clear()
        return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.watcher.close()
    assert not made.loop.readers


def test_nothing_is_asked_of_the_kernel_before_something_is_watched(world: World) -> None:
    world.watcher.follow("web", ())
    assert not world.loop.readers


def test_a_burst_is_told_once_when_it_is_over(world: World) -> None:
    world.follow("web", "**/*.py")
    for number in range(20):
        world.write("a.py", f"{number}")
        world.loop.advance(QUIET / 2)
    assert not world.told
    world.write("b.py")
    assert world.news() == {"web": {"a.py", "b.py"}}


def test_a_burst_without_an_end_is_told_of_after_its_longest_time(world: World) -> None:
    world.follow("web", "**/*.py")
    begun = world.loop.now
    while not world.told:
        world.write("a.py", f"{world.loop.now}")
        world.loop.advance(QUIET / 2)
        assert world.loop.now <= begun + LONGEST + QUIET
    assert world.loop.now >= begun + LONGEST


def test_each_is_told_of_its_own_files(world: World) -> None:
    world.follow("web@1", "web/**/*.py")
    world.follow("web@2", "web/**/*.py")
    world.follow("db", "db.conf")
    world.write("web/deep/er/part.py")
    world.write("db.conf")
    world.write("other.conf")
    part = {"web/deep/er/part.py"}
    assert world.news() == {"web@1": part, "web@2": part, "db": {"db.conf"}}
    world.watcher.follow("web@1", ())
    world.write("web/deep/er/part.py", "2")
    assert world.news() == {"web@2": part}
    world.watcher.follow("web@2", ())
    world.write("web/deep/er/part.py", "3")
    assert world.news() == {}


def test_a_rename_in_place_a_removal_and_a_new_directory_are_changes(world: World) -> None:
    world.write("web/a.py", "1")
    world.follow("web", "web/**/*.py")
    world.write("web/.a.py.swp", "2").rename(world.source / "web/a.py")
    assert world.news() == {"web": {"web/a.py"}}
    (world.source / "web/a.py").unlink()
    assert world.news() == {"web": {"web/a.py"}}
    world.write("web/new/b.py", "1")
    assert world.news() == {"web": {"web/new/b.py"}}
    world.write("web/new/b.py", "22")
    assert world.news() == {"web": {"web/new/b.py"}}


def test_a_tree_that_goes_and_comes_back_is_watched_as_before(world: World) -> None:
    world.write("web/a.py", "1")
    world.follow("web", "web/**/*.py")
    (world.source / "web").rename(world.source / "old")
    assert world.news() == {"web": {"web/a.py"}}
    world.write("old/a.py", "elsewhere")
    assert world.news() == {}
    world.write("web/a.py", "2")
    assert world.news() == {"web": {"web/a.py"}}
    world.write("web/a.py", "33")
    assert world.news() == {"web": {"web/a.py"}}


def test_what_is_no_source_is_no_news(world: World) -> None:
    (world.source / ".git").mkdir()
    world.write(".gitignore", "made/\n*.gen.py\n")
    world.write("a.py", "1")
    world.follow("web", "**/*.py")
    for name in ("made/b.py", "b.gen.py", "__pycache__/c.py", ".d.py", ".orch/e.py", "f.txt"):
        world.write(name)
    world.write("a.py~")
    assert world.news() == {}
    world.write("a.py", "22")
    assert world.news() == {"web": {"a.py"}}


def test_what_was_there_when_it_began_is_no_news(world: World) -> None:
    world.write("a.py", "1")
    world.follow("web", "**/*.py")
    world.write("b.py", "1")
    assert world.news() == {"web": {"b.py"}}


def test_a_kernel_that_gives_no_watch_costs_the_notices_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise OSError(24, "too many instances")

    monkeypatch.setattr(watching, "_Notices", refuse)
    world.follow("web", "**/*.py")
    world.write("a.py")
    assert world.news() == {}
    assert "Changed files are not noticed: " in caplog.text
