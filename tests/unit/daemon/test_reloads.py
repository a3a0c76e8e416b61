"""Reloads of a supervised system: who is asked, in which order, and what its answer does."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.daemon import asking, rows
from orchestrator.daemon import reloads as reloading
from orchestrator.daemon.reloads import Outcome, Reloads
from orchestrator.errors import RequestFailed
from orchestrator.model.phase import Exit
from orchestrator.model.topology import Component, OnSignal, Reload, Restart
from tests import fakes
from tests.fakes import Program
from tests.unit.daemon.system import System

WEB = fakes.component("shop.web", handler="/web.py", command=(), reload=Reload.HOT, settle=0.0)
REPLICAS = [fakes.with_fields(WEB, instance=number, replicas=3) for number in (1, 2, 3)]
CONF = fakes.component("shop.conf", reload=Reload.SIGNAL, reload_signal="WINCH", settle=0.0)
AGAIN = fakes.component("shop.again", reload=Reload.RESTART, settle=0.0)
ALONE = fakes.component("shop.alone", settle=0.0)

Answer = dict[str, Any] | RequestFailed


def answer(outcome: str, **more: Any) -> Answer:
    return {"outcome": outcome, "message": "", "generation": 2, "error": "", **more}


class Programs(dict[tuple[str, ...], Program]):
    """Whatever is started runs until it is told to end."""

    def __contains__(self, argv: object) -> bool:
        return True

    def __missing__(self, argv: tuple[str, ...]) -> Program:
        return Program()


class World:
    """A system with its reloads, and handlers that answer as the test says."""

    def __init__(self, directory: Path) -> None:
        self.system = System(directory)
        self.reloads = Reloads(self.system.supervisor)
        self.system.supervisor.reload = self.reloads.begin
        self.system.supervisor._report = self.report
        self.system.host.programs = Programs()
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str, dict[str, object]]] = []
        self.while_asked: Callable[[str], Awaitable[None]] | None = None

    def report(self, slots: Iterable[str]) -> None:
        self.reloads.seen(slots)

    async def ask(
        self,
        _directory: str,
        component: Component,
        method: str,
        *,
        within: float,
        **params: object,
    ) -> dict[str, Any]:
        assert within > 0
        self.asked.append((component.name, method, params))
        if self.while_asked is not None:
            await self.while_asked(component.name)
        await asyncio.sleep(0)
        found = self.answers.get(component.name, answer("swapped"))
        if isinstance(found, RequestFailed):
            raise found
        return found

    def run(self, *slots: str, **more: Any) -> list[Outcome]:
        """Reload, while time passes as fast as it can."""
        return asyncio.run(self._run(self.reloads.reload(slots, **more)))

    def let(self, begin: Callable[[], object]) -> None:
        """Do what begins reloads, and wait for them."""

        async def wait() -> None:
            begin()
            while self.reloads._tasks:
                await asyncio.gather(*self.reloads._tasks)

        asyncio.run(self._run(wait()))

    async def _run(self, work: Awaitable[Any]) -> Any:
        task = asyncio.ensure_future(work)
        async with asyncio.timeout(30):
            while not task.done():
                await asyncio.sleep(0)
                self.system.host.advance(0.01)
        return await task

    def row(self, slot: str) -> dict[str, Any]:
        return dict(rows.row(self.system.supervisor, slot))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    monkeypatch.setattr(asking, "ask", made.ask)
    return made


def told(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    return [(each["name"], each["outcome"]) for each in outcomes]


@pytest.mark.parametrize(
    ("given", "outcome", "state", "code"),
    [
        (answer("swapped"), "swapped", "ok", 2),
        (answer("unchanged", generation=1), "unchanged", "ok", 1),
        (answer("failed", generation=1, error="web.py:3: no"), "failed", "failed", 1),
        (RequestFailed("timeout", "it did not answer within 1m"), "failed", "failed", 1),
    ],
)
def test_what_a_handler_answers_is_the_outcome_and_shown_in_its_row(
    world: World, given: Answer, outcome: str, state: str, code: int
) -> None:
    world.system.apply(WEB)
    pid = world.system.process(WEB.slot)
    world.answers[WEB.name] = given
    assert told(world.run(WEB.slot)) == [(WEB.name, outcome)]
    row = world.row(WEB.slot)
    assert (row["reload"], row["code"]) == (state, code)
    assert world.system.process(WEB.slot) == pid


@pytest.mark.parametrize(
    "given",
    [
        answer("restart", message="C extension"),
        RequestFailed("unreachable", "it has no control link"),
        RequestFailed("unknown-method", "it knows no 'reload'"),
    ],
)
def test_what_cannot_be_exchanged_is_restarted_and_awaited(world: World, given: Answer) -> None:
    world.system.apply(WEB)
    world.answers[WEB.name] = given
    before = world.system.process(WEB.slot)
    world.system.ready(WEB.slot)

    async def become_ready() -> list[Outcome]:
        work = asyncio.ensure_future(world.reloads.reload([WEB.slot]))
        while (
            world.system.instance(WEB.slot).generation == 1
            or not world.system.instance(WEB.slot).process
        ):
            world.system.host.advance(0.01)
            await asyncio.sleep(0)
        assert not work.done(), "it is awaited"
        world.system.ready(WEB.slot)
        return await work

    assert told(asyncio.run(become_ready())) == [(WEB.name, "restarted")]
    assert world.system.process(WEB.slot) != before


def test_a_restart_that_fails_says_why_it_was_and_what_came_of_it(world: World) -> None:
    world.system.apply(fakes.with_fields(AGAIN, restart=Restart.NEVER))
    world.system.host.programs[AGAIN.command] = Program(0.5, Exit(code=3))
    again = fakes.with_fields(AGAIN, settle=1.0, restart=Restart.NEVER)
    world.system.apply(again)
    (outcome,) = world.run(AGAIN.slot)
    assert outcome["outcome"] == "failed"
    assert "reload: restart" in outcome["message"]
    assert "exit 3" in outcome["message"]


def test_replicas_follow_each_other_and_components_do_not(world: World) -> None:
    world.system.apply(*REPLICAS, fakes.with_fields(WEB, component="other"))
    busy: set[str] = set()
    together: set[frozenset[str]] = set()

    async def note(name: str) -> None:
        busy.add(name)
        together.add(frozenset(busy))
        for _ in range(5):
            await asyncio.sleep(0)
        busy.discard(name)

    world.while_asked = note
    slots = [*(one.slot for one in REPLICAS), "shop.other@1"]
    assert [outcome for _, outcome in told(world.run(*slots))] == ["swapped"] * 4
    assert max(map(len, together)) == 2
    assert not any({"shop.web@1", "shop.web@2"} <= each for each in together)


def test_a_canary_that_fails_keeps_the_code_from_the_others(world: World) -> None:
    world.system.apply(*REPLICAS)
    world.answers["shop.web@1"] = answer("failed", error="web.py:1: no", message="web.py:1: no")
    outcomes = world.run(*(one.slot for one in REPLICAS))
    assert [each["outcome"] for each in outcomes] == ["failed", "skipped", "skipped"]
    assert "shop.web@1 could not be reloaded" in outcomes[2]["message"]
    assert [name for name, _, _ in world.asked] == ["shop.web@1"]


def test_the_first_replica_is_the_canary_in_whatever_order_files_were_found(world: World) -> None:
    world.system.apply(*REPLICAS)
    files = {one.slot: frozenset({"/web.py"}) for one in reversed(REPLICAS)}
    world.let(lambda: world.reloads.changed(files))
    assert [name for name, _, _ in world.asked] == ["shop.web@1", "shop.web@2", "shop.web@3"]


def test_those_that_do_not_run_or_do_not_want_it_are_left_alone(world: World) -> None:
    world.system.apply(WEB, ALONE)
    world.system.supervisor.stop([WEB.slot])
    outcomes = world.run(WEB.slot, ALONE.slot)
    assert told(outcomes) == [(WEB.name, "skipped"), (ALONE.name, "skipped")]
    assert "reload: none" in outcomes[1]["message"]
    assert not world.asked


def test_nothing_is_brought_back_while_the_system_stops(world: World) -> None:
    world.system.apply(WEB)
    world.system.supervisor.shutdown()
    assert told(world.run(WEB.slot)) == [(WEB.name, "skipped")]
    assert not world.asked


def test_the_signal_of_a_reload_reaches_the_process_whatever_signals_mean(world: World) -> None:
    conf = fakes.with_fields(CONF, signals={"WINCH": OnSignal.RELOAD})
    world.system.apply(conf)
    world.let(lambda: world.system.supervisor.send([conf.slot], signal.SIGWINCH))
    assert [(sent.number, sent.group) for sent in world.system.host.sent] == [
        (signal.SIGWINCH, False)
    ]


def test_a_signal_to_the_daemon_reloads_the_replicas_in_turn(world: World) -> None:
    replicas = [fakes.with_fields(one, signals={"HUP": OnSignal.RELOAD}) for one in REPLICAS]
    world.system.apply(*replicas, ALONE)
    world.let(lambda: world.system.supervisor.relay(signal.SIGHUP))
    assert [name for name, _, _ in world.asked] == [one.name for one in replicas]
    assert not world.system.host.sent


def test_changed_files_are_told_to_those_that_run_and_watch_them(world: World) -> None:
    other = fakes.with_fields(WEB, component="other")
    world.system.apply(WEB, other, ALONE)
    world.system.supervisor.stop([other.slot])
    files = frozenset({"/web.py", "/lib.py"})
    slots = (WEB.slot, other.slot, ALONE.slot, "shop.gone@1")
    world.let(lambda: world.reloads.changed(dict.fromkeys(slots, files)))
    assert world.asked == [(WEB.name, "reload", {"changed": ["/lib.py", "/web.py"]})]


def test_one_that_fails_again_and_again_is_heeded_no_more_until_somebody_looks(
    world: World,
) -> None:
    world.system.apply(WEB)
    world.answers[WEB.name] = answer("failed", message="web.py:1: no", error="web.py:1: no")
    files = {WEB.slot: frozenset({"/web.py"})}
    for _ in range(reloading.SWAPS + 20):
        world.let(lambda: world.reloads.changed(files))
    assert len(world.asked) == reloading.SWAPS + 1
    assert "watching is suspended" in world.row(WEB.slot)["warning"]
    world.answers[WEB.name] = answer("swapped")
    world.let(lambda: world.reloads.begin([WEB.slot], "by request"))
    assert not world.row(WEB.slot)["warning"]
    before = len(world.asked)
    world.let(lambda: world.reloads.changed(files))
    assert len(world.asked) == before + 1


def test_restarts_by_changed_files_are_fewer_than_exchanges_and_old_ones_are_forgotten(
    world: World,
) -> None:
    world.system.apply(CONF)
    files = {CONF.slot: frozenset({"/conf"})}
    for _ in range(reloading.RESTARTS):
        world.let(lambda: world.reloads.changed(files))
    world.system.host.advance(reloading.MINUTE)
    for _ in range(reloading.RESTARTS + 20):
        world.let(lambda: world.reloads.changed(files))
    assert len(world.system.host.sent) == 2 * reloading.RESTARTS + 1


def test_a_new_daemon_asks_which_code_runs(world: World) -> None:
    world.system.apply(WEB, ALONE)
    world.answers[WEB.name] = {"generation": 7, "error": "web.py:3: no"}
    world.let(world.reloads.recover_soon)
    row = world.row(WEB.slot)
    assert (row["code"], row["reload"]) == (7, "failed")
    assert [(name, method) for name, method, _ in world.asked] == [(WEB.name, "code")]
