"""From a run to the process of its worker: a component of its own, its order and its files."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import structs

from orchestrator import files
from orchestrator.daemon import guests, programs
from orchestrator.daemon.programs import Place, Reachable
from orchestrator.model.topology import Component, Job, Logs, Restart
from orchestrator.process import Order
from orchestrator.supervision.runs import Run

FORMAT = 1
"""The version of what the worker is given."""

SLOT = "run:"
"""Begins the slots of runs, which no component's does."""

WORKER = "orchestrator.component.worker"

ORDER, PROGRESS, RESULT, OUTPUT = "order.json", "progress.json", "result.json", "output"


class RunComponent(Component, frozen=True):
    """A run as the supervision of processes sees it: a component of one instance."""

    run: str = ""
    record_dir: str = ""

    @property
    def name(self) -> str:
        """The run's name, `service.job/ID`."""
        return f"{self.service}.{self.component}/{self.run}"

    @property
    def slot(self) -> str:
        """The run's slot."""
        return SLOT + self.run


def record_dir(place: Place, run_id: str) -> str:
    """Return the directory of what daemon and worker tell each other of a run."""
    return os.path.join(place.base_dir, "data", "runs", run_id)  # noqa: PTH118 - hot path


def work_path(job: Job, place: Place) -> str:
    """Return where the directories of a job's runs are when its template does not say."""
    return os.path.join(place.base_dir, "runs", f"{job.parent}-{job.job}")  # noqa: PTH118


def output(run: Run) -> str:
    """Return the path of what a run's program has written."""
    return os.path.join(run.request["run_dir"], OUTPUT)  # noqa: PTH118 - for each row


def component(run: Run, place: Place) -> RunComponent:
    """Return what is supervised for a run."""
    job = run.job
    directory = record_dir(place, run.id)
    order_path = os.path.join(directory, ORDER)  # noqa: PTH118 - hot path
    return RunComponent(
        service=job.parent,
        component=job.job,
        # -P: a file called statistics.py beside the topology must not shadow the library's.
        command=(sys.executable, "-P", "-m", WORKER, order_path),
        environment=job.environment,
        inherited=job.inherited,
        secrets=job.secrets,
        zygote=job.zygote,
        working_dir=job.directory,
        umask=job.umask,
        user=job.user,
        group=job.group,
        rlimits=job.rlimits,
        nice=job.nice,
        oom_score_adj=job.oom_score_adj,
        no_new_privileges=job.no_new_privileges,
        memory=job.memory,
        cpu=job.cpu,
        pids=job.pids,
        stop=job.stop,
        restart=Restart.NEVER,
        settle=0.0,
        logs=Logs(capture=False),
        run=run.id,
        record_dir=directory,
    )


def order(
    component: Component,
    generation: int,
    place: Place,
    secrets: Mapping[str, str],
    fds: Mapping[int, int],
    *,
    reachable: Reachable | None = None,
) -> Order:
    """Return the order to start a run's worker."""
    assert isinstance(component, RunComponent)
    made = programs.order(component, generation, place, secrets, fds, reachable=reachable)
    own = os.path.join(place.runtime_dir, "notify.sock")  # noqa: PTH118 - hot path
    notify = reachable.notify if reachable else own
    environment = {**made.environment, "NOTIFY_SOCKET": notify}
    return structs.replace(
        made,
        environment=environment,
        stdout=f"{component.record_dir}/worker.out",
        stderr=f"{component.record_dir}/worker.err",
        no_zygote=programs.no_zygote(component, environment),
    )


def prepare(run: Run, place: Place) -> None:
    """Write what the worker is to do, where it will find it.

    Raises:
        OSError: A directory cannot be made.
        OrchestratorError: The order cannot be written.
    """
    directory = Path(record_dir(place, run.id))
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    work = Path(run.request["run_dir"]).parent
    is_new = not work.exists()
    work.mkdir(parents=True, exist_ok=True)
    path = directory / ORDER
    files.write_atomic(path, json.dumps(_told(run, str(directory))).encode(), 0o600)
    user = guests.other(run.job.user)
    if user is None:
        return
    # He passes through what is ours, and sees nothing of it.
    for passed in (directory.parent, directory.parent.parent, Path(place.base_dir)):
        passed.chmod(passed.stat().st_mode & 0o7777 | 0o001)
    for own in (directory, path, *([work] if is_new else [])):
        os.chown(own, user.pw_uid, user.pw_gid, follow_symlinks=False)
    if is_new and work.is_relative_to(place.base_dir):
        work.parent.chmod(work.parent.stat().st_mode & 0o7777 | 0o001)


def _told(run: Run, directory: str) -> dict[str, Any]:
    job, request = run.job, run.request
    template = request["template"]
    ladder = job.stop.ladder
    return {
        "format": FORMAT,
        "id": run.id,
        "name": run.name,
        "job": job.name,
        "attempt": run.attempt,
        "run_dir": request["run_dir"],
        "record_dir": directory,
        "directory": job.directory,
        "program": job.program,
        "argv": list(job.command) or None,
        "service": request.get("service"),
        "handler": request.get("handler"),
        "python_path": list(job.python_path),
        "template": template,
        "watcher": {
            "enabled": template["o_watcher_enabled"],
            "interval": template["o_watcher_interval"],
        },
        "code": request.get("code") or {"snapshot": None},
        "timeout": job.timeout,
        "stop": {
            "signal": int(getattr(signal, f"SIG{ladder[0].signal}")) if ladder else 9,
            "timeout": sum(rung.wait for rung in ladder),
        },
    }


def read(run: Run, place: Place, name: str) -> dict[str, Any]:
    """Return what the worker of a run's present try has written; empty when nothing."""
    path = os.path.join(record_dir(place, run.id), name)  # noqa: PTH118 - hot path
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - hot path
            told = json.load(file)
    except (OSError, ValueError):
        return {}
    if not isinstance(told, dict) or told.get("attempt") != run.attempt:
        return {}
    return told


def last_words(run: Run, place: Place) -> str:
    """Return the last line that a worker has written on its stderr."""
    path = Path(record_dir(place, run.id)) / "worker.err"
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip() if lines else ""
