"""Which runs that are over are kept no longer."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec import Struct

from orchestrator.model.topology import Keep
from orchestrator.model.units import Bytes, Seconds


class Over(Struct, frozen=True):
    """A run that is over: when it ended, by the wall clock, and what its directories take."""

    id: str
    ended: float
    size: Bytes | None


class Excess(Struct, frozen=True):
    """The runs to remove, the oldest first, and in how many seconds the next one is too old."""

    ids: tuple[str, ...]
    again_in: Seconds | None


def excess(over: Sequence[Over], keep: Keep, now: float, needed: Collection[str]) -> Excess:
    """Return what is not to be kept of a job's runs that are over, the last to end first.

    What is `needed` by a run that is not over counts and stays. The last run to end stays
    whatever its size: a result that is gone before anybody has seen it serves nobody.
    """
    gone: list[str] = []
    kept = size = 0
    again_in: Seconds | None = None
    for number, run in enumerate(over):
        age = now - run.ended
        size += run.size or 0
        is_too_much = (
            (keep.age is not None and age >= keep.age)
            or (keep.count is not None and kept >= keep.count)
            or (keep.size is not None and size > keep.size and number > 0)
        )
        if is_too_much and run.id not in needed:
            gone.append(run.id)
            size -= run.size or 0
            continue
        kept += 1
        if keep.age is not None and run.id not in needed:
            # The list goes back in time: the last that is kept is the next to go.
            again_in = max(0.0, keep.age - age)
    return Excess(tuple(reversed(gone)), again_in)
