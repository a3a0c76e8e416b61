"""From a component to the program that is started for it: words, environment, files."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from msgspec import Struct

from orchestrator.cgroups import Limits
from orchestrator.model import names
from orchestrator.model.topology import Component
from orchestrator.process import MARKER, NO_SETUP, Order, Setup
from orchestrator.supervision.lifecycle import Instance
from orchestrator.wire import loglayout


class Place(Struct, frozen=True):
    """Where a system lives: what programs are told, and where their output goes."""

    key: str
    name: str
    runtime_dir: str
    base_dir: str


class Reachable(Struct, frozen=True):
    """What a component of another user is told instead of paths in the runtime directory."""

    notify: str
    link: str


def marker(instance: Instance, place: Place) -> str:
    """Return the marker of an instance's current generation, `KEY/SLOT/GENERATION`."""
    return _marker(instance.component, instance.generation, place)


def outputs(component: Component, place: Place) -> tuple[str | None, str | None]:
    """Return the paths of the files that take stdout and stderr; None where nothing is kept."""
    if not component.logs.capture:
        return None, None
    stem = f"{place.base_dir}/logging/{component.stem}"
    return f"{stem}.out", f"{stem}.err"


def pipes(component: Component, place: Place) -> tuple[str | None, str | None]:
    """Return the paths of the pipes whose reader writes the files; None where there are none."""
    if not component.is_piped:
        return None, None
    stem = f"{place.runtime_dir}/{loglayout.PIPES}/{component.stem}"
    return f"{stem}.out", f"{stem}.err"


def _said(component: Component, place: Place) -> tuple[str | None, str | None]:
    """Return the paths of what a program gets as its stdout and stderr."""
    return pipes(component, place) if component.is_piped else outputs(component, place)


def order(
    component: Component,
    generation: int,
    place: Place,
    secrets: Mapping[str, str],
    fds: Mapping[int, int],
    *,
    reachable: Reachable | None = None,
) -> Order:
    """Return the order to start a component's process."""
    stdout, stderr = _said(component, place)
    environment = _environment(component, generation, place, secrets)
    speaks = component.ready is not None and component.ready.notify
    if speaks or component.has_runtime or component.watchdog:
        reachable = reachable or Reachable(
            f"{place.runtime_dir}/notify.sock",
            names.link_path(place.runtime_dir, component.stem),
        )
        environment["NOTIFY_SOCKET"] = reachable.notify
        if component.has_runtime:
            environment["ORCH_CONTROL"] = reachable.link
    if component.watchdog:
        environment["WATCHDOG_USEC"] = str(round(component.watchdog * 1_000_000))
    told_pid = ["WATCHDOG_PID"] if component.watchdog else []
    if component.sockets:
        environment["LISTEN_FDS"] = str(len(component.sockets))
        environment["LISTEN_FDNAMES"] = ":".join(component.sockets)
        told_pid.append("LISTEN_PID")
    setup = Setup(
        user=component.user,
        group=component.group,
        nice=component.nice,
        oom_score_adj=component.oom_score_adj,
        no_new_privileges=component.no_new_privileges,
        rlimits=component.rlimits,
        fds=fds,
        # What it starts itself inherits the variables, and is not meant by them.
        pid_variables=tuple(told_pid),
    )
    return Order(
        argv=_argv(component, place),
        environment=environment,
        working_dir=component.working_dir,
        stdout=stdout,
        stderr=stderr,
        piped=component.is_piped,
        umask=component.umask,
        setup=setup or NO_SETUP,
        limits=Limits(component.memory, component.cpu, component.pids),
        no_zygote=no_zygote(component, environment) if component.has_runtime else None,
    )


_INTERPRETERS = ("PYTHON", "LD_", "MALLOC_", "GLIBC_TUNABLES", "COVERAGE_PROCESS")


def no_zygote(component: Component, environment: Mapping[str, str]) -> str:
    """Return why a Python component needs a fresh interpreter; empty when it does not.

    Variables that an interpreter or its C library reads at its start must be there by then.
    """
    if not component.zygote:
        return "zygote: false"
    for name in environment:
        if name.startswith(_INTERPRETERS):
            return f"its environment sets {name}"
    return ""


def stop_order(
    component: Component, generation: int, place: Place, secrets: Mapping[str, str]
) -> Order:
    """Return the order to start a component's stop command, beside its process."""
    stdout, stderr = _said(component, place)
    return Order(
        argv=component.stop.command,
        # Not the instance's own marker: the command is no part of the tree it stops.
        environment=_environment(component, generation, place, secrets)
        | {MARKER: f"{place.key}/stop"},
        working_dir=component.working_dir,
        stdout=stdout,
        stderr=stderr,
        piped=component.is_piped,
        setup=Setup(user=component.user, group=component.group),
    )


def probe_order(
    component: Component,
    argv: tuple[str, ...],
    marked: str,
    place: Place,
    secrets: Mapping[str, str],
) -> Order:
    """Return the order to start a probe's command in a component's surroundings.

    Its marker is its own: it is no part of the tree that it looks at.
    """
    return Order(
        argv=argv,
        environment=_environment(component, 0, place, secrets) | {MARKER: marked},
        working_dir=component.working_dir,
        setup=Setup(user=component.user, group=component.group),
    )


def _argv(component: Component, place: Place) -> tuple[str, ...]:
    if not component.has_runtime:
        return component.command
    conf = f"{place.base_dir}/conf/{component.stem}"
    # -P: a handler file called statistics.py must not shadow the standard library's.
    return (sys.executable, "-P", "-m", "orchestrator.component", conf)


def revealed(text: str, secrets: Mapping[str, str]) -> str:
    """Return a text with the secrets that it names."""
    return names.SECRET.sub(lambda found: secrets.get(found[1], found[0]), text)


def _environment(
    component: Component, generation: int, place: Place, secrets: Mapping[str, str]
) -> dict[str, str]:
    environment = dict(component.environment)
    if component.secrets:
        environment = {name: revealed(value, secrets) for name, value in environment.items()}
        if component.has_runtime:
            for name in component.secrets:
                environment[f"ORCH_SETTING_{name}"] = secrets.get(name, "")
    environment = {**component.inherited, **environment}
    environment[MARKER] = _marker(component, generation, place)
    return environment


def _marker(component: Component, generation: int, place: Place) -> str:
    return f"{place.key}/{component.slot}/{generation}"
