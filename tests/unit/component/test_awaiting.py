"""What async functions send, with ends that take nothing for a while."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from orchestrator.component import awaiting
from orchestrator.component.errors import SendTimeout
from orchestrator.component.sources import Out


class Slow:
    """A state with a subscriber that has no room until told otherwise."""

    timeout = 30.0

    def __init__(self) -> None:
        self.has_room = False
        self.framed: list[str] = []
        self.told: list[bytes] = []

    def frame(self, arguments: str) -> bytes:
        self.framed.append(arguments)
        return arguments.encode()

    def transmit(self, frame: bytes) -> bool:
        if self.has_room:
            self.told.append(frame)
        return self.has_room

    def expired(self, timeout: float) -> SendTimeout:
        return SendTimeout(f"not within {timeout}")


def changing(state: Slow) -> Any:
    return awaiting.changes({"state": cast("Out", state)})["state"]


def test_changes_of_a_state_are_told_in_the_order_in_which_it_changed() -> None:
    state = Slow()

    async def change() -> None:
        send = changing(state)
        async with asyncio.TaskGroup() as tasks:
            for name in "abc":
                tasks.create_task(send(name))
            await asyncio.sleep(0)
            assert state.framed == ["a"]
            state.has_room = True
            # Whoever comes now has to wait behind them although there is room.
            tasks.create_task(send("d"))
        await send("e")

    asyncio.run(change())
    assert state.told == [b"a", b"b", b"c", b"d", b"e"]
    assert state.framed == list("abcde")


def test_a_change_that_waits_behind_others_has_its_own_time() -> None:
    state = Slow()

    async def change() -> None:
        send = changing(state)
        first = asyncio.create_task(send("a"))
        await asyncio.sleep(0)
        with pytest.raises(SendTimeout, match=r"not within 0\.01"):
            await send("b", 0.01)
        state.has_room = True
        await first
        await send("c")

    asyncio.run(change())
    assert state.framed == ["a", "c"]
