"""Jobs in a topology: what they come to, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.model import plain, topology
from orchestrator.model.jobs import RunCondition
from orchestrator.model.topology import (
    After,
    Backoff,
    Job,
    JobWatcher,
    Keep,
    Lock,
    Overlap,
    Retries,
    Rung,
    Stop,
)
from tests.unit.config.conftest import Workshop, marked


def described(fields: str, name: str = "sim") -> str:
    """Return a topology with one job."""
    return f"services: {{lab: {{jobs: {{{name}: {{{fields}}}}}}}}}\n"


@pytest.fixture
def files(workshop: Workshop) -> Path:
    for name in ("pool/sim.py", "services/sim.py", "handlers/sim_handler.py"):
        path = workshop.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    return workshop.directory


def test_a_job_with_everything(workshop: Workshop, files: Path) -> None:
    lock = workshop.lock(
        """
job_concurrency: 3
defaults: {umask: "027", stop: {timeout: 3s}, environment: {A: "1"}}
services:
  lab:
    environment: {B: "2"}
    jobs:
      get: {command: fetch --all "two words"}
      sim:
        program: pool/sim.py
        service: services/sim.py
        handler: handlers/sim_handler.py:SimHandler
        template: {work_path: work, input_file: in.dat, args: {steps: 10, fast: true}, mine: [1]}
        required: [input_file, mine]
        watcher: {interval: 500ms}
        after: {get: {condition: completed}}
        keep: {age: 7d, count: 5, size: 1GB}
        concurrency: 2
        priority: 7
        timeout: 1h
        retries: {limit: 3, backoff: {initial: 1s}}
        schedule: "@daily"
        overlap: cancel-running
        environment: {C: 3}
        memory: 512MiB
        nice: 5
"""
    ).lock
    assert lock.job_concurrency == 3
    job = lock.jobs["lab.sim"]
    assert job == Job(
        parent="lab",
        job="sim",
        program=f"{files}/pool/sim.py",
        service=f"{files}/services/sim.py",
        handler=f"{files}/handlers/sim_handler.py:SimHandler",
        template={
            "g_work_path": f"{files}/work",
            "g_input_file": "in.dat",
            "s_service_args": {"steps": "10", "fast": "true"},
            "mine": [1],
        },
        required=("g_input_file", "mine"),
        watcher=JobWatcher(interval=0.5),
        after={"lab.get": After(RunCondition.COMPLETED)},
        keep=Keep(7 * 86400.0, 5, 10**9),
        concurrency=2,
        priority=7,
        timeout=3600.0,
        retries=Retries(3, Backoff(initial=1.0)),
        schedule="@daily",
        overlap=Overlap.CANCEL_RUNNING,
        directory=str(files),
        python_path=(f"{files}/services", f"{files}/handlers", str(files)),
        environment={"A": "1", "B": "2", "C": "3"},
        inherited=job.inherited,
        umask=0o027,
        nice=5,
        memory=512 * 1024 * 1024,
        stop=Stop((Rung("TERM", 3.0),)),
    )
    assert lock.jobs["lab.get"].command == ("fetch", "--all", "two words")
    assert not lock.components


def test_what_is_short_means_the_usual(workshop: Workshop) -> None:
    job = workshop.lock(described("command: 'true', keep: 7d, retries: 2")).lock.jobs["lab.sim"]
    assert (job.keep, job.retries) == (Keep(age=7 * 86400.0), Retries(2))
    plainly = workshop.lock(described("command: 'true'")).lock.jobs["lab.sim"]
    assert (plainly.keep, plainly.retries, plainly.concurrency) == (Keep(), Retries(), None)


def test_a_lock_with_jobs_is_the_same_when_it_is_read_back(workshop: Workshop) -> None:
    fields = "command: 'true', keep: 7d, after: [get], template: {deep: {a: [1, {b: null}]}}"
    text = described(fields).replace("jobs: {", "jobs: {get: {command: 'true'}, ")
    lock = workshop.lock(text).lock
    told = plain.encode(lock)
    assert plain.decode(Lock, told) == lock
    # Whose shell applied it makes no difference.
    assert "inherited" not in str(topology.declared(told))


def test_jobs_and_components_stand_side_by_side(workshop: Workshop) -> None:
    text = "services: {lab: {components: {web: {command: sleep 1}}, jobs: {sim: {command: ls}}}}"
    lock = workshop.lock(text).lock
    assert (list(lock.components), list(lock.jobs)) == (["lab.web"], ["lab.sim"])


@pytest.mark.parametrize(
    ("fields", "code", "at"),
    [
        ("command: 'true', after: [smi]", "ORC400", "smi"),
        ("command: 'true', after: [lab]", "ORC400", "lab"),
        ("program: pool/smi.py", "ORC401", "pool/smi.py"),
        ("program: pool", "ORC401", "pool"),
        ("command: 'true', service: no.py", "ORC401", "no.py"),
        ("command: 'true', handler: no.py:C", "ORC401", "no.py:C"),
        ("command: 'true', after: [sim]", "ORC402", "sim"),
        ("command: 'true', service: services/sim.py:a-b", "ORC403", "services/sim.py:a-b"),
        ("command: 'true', handler: some.where", "ORC403", "some.where"),
        (
            "command: 'true', template: {a: 1, g_input_file: x, input_file: y}",
            "ORC404",
            "input_file",
        ),
        ("command: 'true', template: {service_id: Not OK}", "ORC404", "Not OK"),
        ("command: 'true', template: {args: {'a=b': 1}}", "ORC404", "{"),
        ("command: 'true', template: {o_watcher_interval: soon}", "ORC404", "soon"),
        ("command: 'true', schedule: '* *'", "ORC265", "'* *'"),
        ("command: 'true', keep: 7 days", "ORC106", "7 days"),
        ("command: 'true', keep: {count: -1}", "ORC108", "-1"),
        ("command: 'true', retries: -1", "ORC108", "-1"),
        ("command: 'true', required: [seed], schedule: '@daily'", "ORC406", "'@daily'"),
        ("command: 'true', overlap: queue", "ORC105", "overlap"),
        (
            "command: 'true', handler: handlers/sim_handler.py, watcher: {interval: 0s}",
            "ORC108",
            "0s",
        ),
        ("command: 'true', program: pool/sim.py", "ORC104", "program"),
        ("priority: 1", "ORC103", "sim"),
        ("command: 'true', restart: always", "ORC100", "restart"),
        ("command: 'true', template: {input_file: '${self.name}'}", "ORC028", "${self.name}"),
    ],
)
def test_a_mistake_is_told_where_it_stands(
    workshop: Workshop, files: Path, fields: str, code: str, at: str
) -> None:
    assert files.is_dir()
    found = workshop.only(described(fields))
    assert (found.code, marked(found)) == (code, at)


def test_every_mistake_at_once(workshop: Workshop) -> None:
    text = """
services:
  lab:
    jobs:
      a: {command: 'true', after: [b]}
      b: {command: 'true', after: [c], handler: no.py}
      c: {command: 'true', after: {a: {condition: failed}}, schedule: never}
    components:
      c: {command: sleep 1}
"""
    assert sorted(workshop.codes(text)) == ["ORC265", "ORC401", "ORC402", "ORC405"]


def test_a_circle_is_shown_all_the_way_round(workshop: Workshop) -> None:
    jobs = "a: {command: 'true', after: [b]}, b: {command: 'true', after: [a]}"
    found = workshop.only(f"services: {{lab: {{jobs: {{{jobs}}}}}}}\n")
    assert (found.code, marked(found)) == ("ORC402", "b")
    assert "lab.a → lab.b → lab.a" in found.message
    assert found.related


def test_what_has_no_effect_is_said(workshop: Workshop) -> None:
    fields = "command: 'true', watcher: {interval: 1s}, retries: {backoff: {initial: 1s}}"
    assert workshop.codes(described(fields)) == ["ORC109", "ORC109"]


def test_secrets_reach_the_environment_of_runs_and_nothing_else(workshop: Workshop) -> None:
    settings = "settings: {KEY: {required: true, secret: true}}\n"
    fields = "command: 'true', environment: {K: '${settings.KEY}'}"
    found = workshop.lock(settings + described(fields), settings={"KEY": "hush"})
    job = found.lock.jobs["lab.sim"]
    assert (job.environment, job.secrets) == ({"K": "${settings.KEY}"}, ("KEY",))
    assert "hush" not in str(plain.encode(found.lock))
    fields = "command: 'echo ${settings.KEY}'"
    codes = workshop.codes(settings + described(fields), settings={"KEY": "hush"})
    assert codes == ["ORC027"]
