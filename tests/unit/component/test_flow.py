"""The workflow in hand, of a component and of each of its contexts."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.component import flow, interleaving


@pytest.mark.parametrize("kind", [flow.Flow, interleaving.Flow])
def test_what_is_sent_carries_the_id_of_the_message_in_hand(kind: type[flow.Flow]) -> None:
    made = kind()
    assert made.current is None
    assert made.next() != made.next()
    assert made.begin("a") == "a"
    assert [made.next() for _ in range(3)] == ["a", "a_1", "a_2"]
    assert made.current == "a"
    began = made.begin(None)
    assert len(began) == 36
    assert made.next() == began
    made.current = None
    assert made.next() != began


def test_each_task_has_a_message_in_hand_of_its_own() -> None:
    made = interleaving.Flow()
    sent: list[str] = []

    async def branch() -> None:
        sent.append(made.next())

    async def function(workflow_id: str, others: asyncio.Barrier) -> None:
        made.begin(workflow_id)
        sent.append(made.next())
        await others.wait()
        # A task that a function begins sends on behalf of the same message.
        await asyncio.gather(branch(), branch())
        made.current = None

    async def both() -> None:
        others = asyncio.Barrier(2)
        await asyncio.gather(function("a", others), function("b", others))
        assert made.current is None

    asyncio.run(both())
    assert sorted(sent) == ["a", "a_1", "a_2", "b", "b_1", "b_2"]
