"""What an end means and whether it is followed by a restart, and when.

The truth table is systemd's (systemd.service(5), `Restart=`): exit 0, a declared success
code, and death by HUP, INT, TERM or PIPE are clean. Unlike systemd's `StartLimitBurst`,
the limit counts consecutive failures: a count per interval and a growing backoff fight
each other, and then the limit is never reached.
"""

from __future__ import annotations

import signal

from orchestrator.model.phase import Exit, Result
from orchestrator.model.topology import Backoff, Component, Restart
from orchestrator.model.units import Seconds

CLEAN_SIGNALS = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE})


def is_clean(end: Exit, component: Component) -> bool:
    """Tell whether an end by itself counts as success."""
    if end.code is not None:
        return end.code == 0 or end.code in component.success_codes
    return end.signal in CLEAN_SIGNALS


def result_of(end: Exit, component: Component) -> Result:
    """Return the result that an end by itself has."""
    if is_clean(end, component):
        return Result.SUCCESS
    if end.oom:
        return Result.OOM_KILL
    if end.core_dumped:
        return Result.CORE_DUMP
    if end.signal is not None:
        return Result.SIGNAL
    return Result.EXIT_CODE


def wants_restart(component: Component, *, clean: bool) -> bool:
    """Tell whether the restart policy starts again what ended by itself."""
    match component.restart:
        case Restart.ALWAYS:
            return True
        case Restart.ON_FAILURE:
            return not clean
        case Restart.NEVER:
            return False


def delay(backoff: Backoff, attempt: int, chance: float) -> Seconds:
    """Return how long to wait before the restart number `attempt` (from 0) of a series.

    Args:
        backoff: The component's declaration.
        attempt: Delays served in this series so far.
        chance: A random number from 0 to below 1; it chooses within the jitter.
    """
    # The exponent is bounded so that a long crash loop cannot overflow the float.
    grown = min(backoff.initial * backoff.factor ** min(attempt, 64), backoff.max)
    return max(0.0, grown * (1.0 + backoff.jitter * (2.0 * chance - 1.0)))
