"""Random components, exits and events; small numbers, so that things meet."""

from __future__ import annotations

from hypothesis import strategies as st

from orchestrator.model import topology
from orchestrator.model.phase import Exit, Process, Result
from orchestrator.model.topology import (
    Backoff,
    Component,
    Kill,
    Limit,
    Probe,
    Ready,
    Restart,
    Rung,
)
from orchestrator.supervision import lifecycle
from orchestrator.supervision.lifecycle import Event
from tests import fakes

chances = st.floats(0.0, 1.0, exclude_max=True)
seconds = st.sampled_from([0.0, 0.25, 1.0, 5.0, 40.0])

exits = st.one_of(
    st.builds(Exit, code=st.sampled_from([0, 1, 7, 255])),
    st.builds(Exit, signal=st.sampled_from([1, 2, 9, 11, 13, 15]), core_dumped=st.booleans()),
    st.just(Exit()),
)

stops = st.builds(
    topology.Stop,
    ladder=st.lists(
        st.builds(Rung, st.sampled_from(["TERM", "INT", "HUP"]), seconds), max_size=3
    ).map(tuple),
    kill=st.sampled_from(Kill),
    command=st.sampled_from([(), ("bye",)]),
)

components: st.SearchStrategy[Component] = st.builds(
    lambda **fields: fakes.component("shop.web", **fields),
    restart=st.sampled_from(Restart),
    settle=seconds,
    start_timeout=seconds,
    ready=st.sampled_from([None, Ready(tcp="h:1"), Ready(notify=True)]),
    live=st.sampled_from([None, Probe(tcp="h:1")]),
    startup=st.sampled_from([None, Probe(tcp="h:2")]),
    watchdog=st.sampled_from([0.0, 3.0]),
    stop=stops,
    limit=st.builds(Limit, st.sampled_from([0, 1, 3, 10])),
    backoff=st.builds(
        Backoff,
        initial=st.sampled_from([0.0, 0.5]),
        max=st.sampled_from([0.5, 30.0]),
        jitter=st.sampled_from([0.0, 0.1]),
        reset_after=st.sampled_from([0.0, 3.0, 30.0]),
    ),
)

processes = st.builds(Process, st.integers(2, 9), st.integers(1, 9))
timers = st.integers(1, 12)

events: st.SearchStrategy[Event] = st.one_of(
    st.sampled_from(
        [
            lifecycle.Start(),
            lifecycle.Go(),
            lifecycle.Stop(),
            lifecycle.KillNow(),
            lifecycle.BecameReady(),
            lifecycle.LostReadiness(),
            lifecycle.Emptied(),
            lifecycle.StopCommandDone(),
            lifecycle.Reset(),
        ]
    ),
    st.builds(lifecycle.GiveUp, st.just("group intensity")),
    st.builds(lifecycle.DependencyFailed, st.just("cannot start 'web': 'db' failed")),
    st.builds(lifecycle.Spawned, processes),
    st.builds(lifecycle.SpawnFailed, st.just("cannot start"), st.booleans(), chances),
    st.builds(lifecycle.Adopted, processes, st.booleans(), st.just(0.0)),
    st.builds(
        lifecycle.Unhealthy, st.sampled_from([Result.LIVENESS, Result.WATCHDOG]), st.just("why")
    ),
    st.builds(
        lifecycle.StopGoesOn,
        st.integers(-1, 3),
        st.sampled_from([0.0, 2.0]),
        st.sampled_from([Result.REQUESTED, Result.TIMEOUT_STOP, Result.LIVENESS]),
        st.booleans(),
    ),
    st.builds(lifecycle.Exited, exits, st.booleans(), chances),
    st.builds(lifecycle.Fired, timers, chances),
)
"""Every event, whether it can come there or not."""
