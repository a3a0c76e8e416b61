"""The resolved topology: what the daemon is given, and nothing it has to look up.

A `Lock` holds one `Component` per instance with every default, setting, address and
variable resolved. Its plain form (see `plain`) is canonical: equal locks give equal JSON, and
values that equal their default are left out.

A field's annotation says what its change needs on a running instance (`Live`, `AtStart`); the
topology schema carries the same word as `x-apply`, and a test compares the two.
"""

from __future__ import annotations

import enum
import functools
import json
import typing
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from msgspec import Struct

from orchestrator.model import digests, names
from orchestrator.model.jobs import RunCondition
from orchestrator.model.units import Bytes, Seconds

Json = Any
"""A value of JSON: null, bool, int, float, str, list or dict of such."""

Plain = dict[str, Json]
"""A JSON object."""


class Apply(enum.StrEnum):
    """What the change of a field needs on a running instance."""

    LIVE = "live"
    RESTART = "restart"


class Mode(enum.StrEnum):
    """How a handler component lives: serves for ever, or runs `main` and ends."""

    SERVICE = "service"
    MAIN = "main"


class Restart(enum.StrEnum):
    """When a process that ended by itself is started again."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


class Condition(enum.StrEnum):
    """What a dependent waits for."""

    STARTED = "started"
    READY = "ready"
    COMPLETED = "completed"
    COMPLETED_SUCCESSFULLY = "completed_successfully"


class Kill(enum.StrEnum):
    """Whom a stop signals: group then tree, leader then tree, or the leader alone."""

    TREE = "tree"
    MIXED = "mixed"
    LEADER = "leader"


class WhenFull(enum.StrEnum):
    """What a publisher does when a subscriber is full: wait for it, or let it miss messages."""

    BLOCK = "block"
    DROP = "drop"


class AtEnd(enum.StrEnum):
    """What the final end of a component does to the system."""

    IGNORE = "ignore"
    SHUTDOWN = "shutdown"


class Capture(enum.StrEnum):
    """How output comes into a log file: written there, or through a pipe whose reader dates it."""

    FILE = "file"
    PIPED = "piped"


class OnSignal(enum.StrEnum):
    """What a signal does that is sent to a component by way of the daemon."""

    PASS = "pass"  # noqa: S105 - no password
    RELOAD = "reload"
    RESTART = "restart"
    STOP = "stop"
    IGNORE = "ignore"


class Strategy(enum.StrEnum):
    """Who is restarted with a member of a group that failed: nobody, all, or those after it."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"


class Then(enum.StrEnum):
    """What follows when a group gives up: its members stop, or the whole system."""

    STOP = "stop"
    SHUTDOWN = "shutdown"


class Reload(enum.StrEnum):
    """How an instance takes on changed code."""

    HOT = "hot"
    RESTART = "restart"
    SIGNAL = "signal"
    NONE = "none"


class Overlap(enum.StrEnum):
    """What a schedule does when its last run is not over: nothing, queue one more, replace it."""

    SKIP = "skip"
    QUEUE = "queue"
    CANCEL_RUNNING = "cancel-running"


T = TypeVar("T")

Live = Annotated[T, Apply.LIVE]
"""A field whose change a running instance takes as it is."""

AtStart = Annotated[T, Apply.RESTART]
"""A field whose change needs another process."""


class Dependency(Struct, frozen=True, omit_defaults=True):
    """What an instance waits for before it starts."""

    condition: Condition = Condition.READY
    required: bool = True
    restart: bool = False


class Backoff(Struct, frozen=True, omit_defaults=True):
    """The delays between restarts: `initial * factor^n`, at most `max`, give or take `jitter`."""

    initial: Seconds = 0.5
    factor: float = 2.0
    max: Seconds = 30.0
    jitter: float = 0.1
    reset_after: Seconds = 30.0


class Limit(Struct, frozen=True, omit_defaults=True):
    """How many failures in a row, none after `reset_after`, end the trying; 0: no limit."""

    failures: int = 10


class Surroundings(Struct, frozen=True, omit_defaults=True):
    """What service classes and packages find in their process.

    `store` is where configuration is kept: `sqlite` or a URL. `contexts` are `{"class", "args",
    "kwargs"}` by name, `services` `{"class", "config"}`.
    """

    store: str = "sqlite"
    contexts: Mapping[str, Json] = {}
    services: Mapping[str, Json] = {}


BARE = Surroundings()
"""Those of what is neither."""


class KeepAlive(Struct, frozen=True, omit_defaults=True):
    """How a service class is looked after: every `interval`."""

    interval: Seconds = 10.0


class Rung(Struct, frozen=True, omit_defaults=True):
    """One step of a stop ladder: send `signal`, wait up to `wait`."""

    signal: str
    wait: Seconds


class Stop(Struct, frozen=True, omit_defaults=True):
    """How an instance is stopped. After the last rung comes KILL to the whole tree."""

    ladder: tuple[Rung, ...] = (Rung("TERM", 10.0),)
    kill: Kill = Kill.TREE
    command: tuple[str, ...] = ()


class Probe(Struct, frozen=True, omit_defaults=True):
    """Looks repeated from outside; exactly one of the first three is set."""

    http: str | None = None
    tcp: str | None = None
    exec: tuple[str, ...] = ()
    status: tuple[int, int] = (200, 399)
    every: Seconds = 10.0
    timeout: Seconds = 3.0
    failures: int = 3
    successes: int = 1
    start_period: Seconds = 0.0

    @property
    def kind(self) -> str:
        """The name of the one way that is set."""
        for name in KINDS:
            if getattr(self, name, None) not in (None, False, ()):
                return name
        raise ValueError("internal error: a probe without a kind")


class Ready(Probe, frozen=True):
    """How readiness is found out: by a probe, or by a word of the process itself."""

    notify: bool = False
    log: str | None = None
    fd: int | None = None
    delay: Seconds | None = None


KINDS = ("notify", "http", "tcp", "exec", "log", "fd", "delay")
"""The ways to find out, strongest first."""

PROBES = frozenset({"http", "tcp", "exec"})
"""Those that look from outside, again and again."""


class Logs(Struct, frozen=True, omit_defaults=True):
    """Where output goes: into files (`capture`), rotated at `size`, with `keep` old segments.

    With `compress` the segments are compressed.
    """

    capture: bool = True
    mode: Capture = Capture.FILE
    size: Bytes = 50_000_000
    keep: int = 5
    compress: bool = False


class Listen(Struct, frozen=True, omit_defaults=True):
    """A socket that is opened for a component: `tcp://HOST:PORT` or `unix:///PATH`.

    `mode` is that of a unix socket's file.
    """

    address: str = ""
    backlog: int = 4096
    mode: int = 0o600


class Wiring(Struct, frozen=True, omit_defaults=True):
    """The named ends of a component's edges, each with the endpoints that wire it.

    A value is an endpoint, a list of endpoints (the replicas of a binder), or a mapping of
    socket names to these, as in an addresses file.
    """

    inward: Mapping[str, Json] = {}
    outward: Mapping[str, Json] = {}


UNWIRED = Wiring()
"""The wiring of what has no ends; a default by identity, so that texts leave it out."""


class Curve(Struct, frozen=True, omit_defaults=True):
    """The key files of an address, absolute paths: the own pair, the binder's, the guests'."""

    key: str
    server: str | None = None
    allow: tuple[str, ...] = ()


class Endpoint(Struct, frozen=True, omit_defaults=True):
    """What an address asks of the sockets at its endpoints.

    `high_water_mark` counts the messages that wait per peer; `when_full` says what a publisher
    does with the next one. At a `bus` publishers connect.
    """

    high_water_mark: int = 10_000
    when_full: WhenFull = WhenFull.BLOCK
    max_message: Bytes = 64 * 1024 * 1024
    bus: bool = False
    curve: Curve | None = None


class Component(Struct, frozen=True, omit_defaults=True):
    """A component as resolved for one of its instances.

    Exactly one of `handler` (absolute path of a file or package, or a dotted module), `package`
    (a dotted module), `service_class` (`module:Class`) and `command` (argv) is set. Strings may
    still hold `${settings.NAME}` for each name in `secrets`, which only the process itself, or
    the daemon when it starts one, replaces. `endpoints` are the terms of the endpoints in
    `connections` and `states` that have their own. `environment` is what was declared; it wins
    over `inherited`, which is of the shell that applied the lock: for the next start, no reason
    for one, and in no built file. `configurations` are the values of configuration objects by
    their full names, `settings` what its code reads of them itself, both with exact types (see
    `wire.exactjson`); with `takes_settings` it takes on others while it runs. `watch`
    holds absolute patterns, written as in a .gitignore.
    """

    service: str
    component: str
    instance: int = 1
    replicas: Live[int] = 1
    handler: AtStart[str | None] = None
    package: AtStart[str | None] = None
    service_class: AtStart[str | None] = None
    command: AtStart[tuple[str, ...]] = ()
    mode: AtStart[Mode] = Mode.SERVICE
    concurrency: AtStart[int] = 1
    enabled: Live[bool] = True
    profiles: Live[tuple[str, ...]] = ()
    depends_on: Live[Mapping[str, Dependency]] = {}
    connections: AtStart[Wiring] = UNWIRED
    states: AtStart[Wiring] = UNWIRED
    endpoints: AtStart[Mapping[str, Endpoint]] = {}
    expect_subscribers: AtStart[Mapping[str, int]] = {}
    config: AtStart[Mapping[str, Json]] = {}
    configurations: AtStart[Mapping[str, Json]] = {}
    settings: AtStart[Mapping[str, Json]] = {}
    takes_settings: Live[bool] = False
    environment: AtStart[Mapping[str, str]] = {}
    inherited: Live[Mapping[str, str]] = {}
    secrets: AtStart[tuple[str, ...]] = ()
    python_path: AtStart[tuple[str, ...]] = ()
    zygote: AtStart[bool] = True
    working_dir: AtStart[str] = ""
    umask: AtStart[int | None] = None
    user: AtStart[str | None] = None
    group: AtStart[str | None] = None
    rlimits: AtStart[Mapping[str, tuple[int, int]]] = {}
    nice: AtStart[int | None] = None
    oom_score_adj: AtStart[int | None] = None
    no_new_privileges: AtStart[bool] = False
    memory: AtStart[Bytes | None] = None
    cpu: AtStart[float | None] = None
    pids: AtStart[int | None] = None
    sockets: AtStart[Mapping[str, Listen]] = {}
    restart: Live[Restart] = Restart.ON_FAILURE
    success_codes: Live[tuple[int, ...]] = (0,)
    backoff: Live[Backoff] = Backoff()
    limit: Live[Limit] = Limit()
    start_timeout: Live[Seconds] = 60.0
    settle: Live[Seconds] = 1.0
    ready: AtStart[Ready | None] = None
    live: AtStart[Probe | None] = None
    startup: AtStart[Probe | None] = None
    manifests: AtStart[Mapping[str, Json]] = {}
    surroundings: AtStart[Surroundings] = BARE
    keep_alive: AtStart[KeepAlive | None] = None
    watchdog: AtStart[Seconds] = 0.0
    stop: Live[Stop] = Stop()
    logs: AtStart[Logs] = Logs()
    on_failure: Live[AtEnd] = AtEnd.IGNORE
    on_exit: Live[AtEnd] = AtEnd.IGNORE
    signals: Live[Mapping[str, OnSignal]] = {}
    schedule: Live[str | None] = None
    reload: Live[Reload] = Reload.NONE
    reload_signal: Live[str] = "HUP"
    watch: Live[tuple[str, ...]] = ()

    @property
    def name(self) -> str:
        """The instance's name, `service.component` or `service.component@2`."""
        return names.instance_name(self.service, self.component, self.instance, self.replicas)

    @property
    def base(self) -> str:
        """The component's name, the same for all of its instances."""
        return f"{self.service}.{self.component}"

    @property
    def is_piped(self) -> bool:
        """Whether its output goes through pipes."""
        return self.logs.capture and self.logs.mode is Capture.PIPED

    @property
    def descriptors(self) -> int:
        """How many descriptors a daemon may need for it: a pidfd, and the ends of its pipes."""
        return 3 if self.is_piped else 1

    @property
    def is_awaited(self) -> bool:
        """Whether it tells or shows that it is ready; what does not merely settles."""
        return self.has_runtime or self.ready is not None or self.startup is not None

    @property
    def has_runtime(self) -> bool:
        """Whether our runtime runs in its process: it speaks of readiness, and can be asked."""
        return not self.command

    @property
    def stem(self) -> str:
        """The stem of the instance's log files and of its configuration directory."""
        return names.file_stem(self.service, self.component, self.instance)

    @property
    def slot(self) -> str:
        """The instance's identity, which scaling does not change: `service.component@2`."""
        return f"{self.service}.{self.component}@{self.instance}"


class After(Struct, frozen=True, omit_defaults=True):
    """What a run waits for: how the run before it must have ended."""

    condition: RunCondition = RunCondition.SUCCEEDED


class Keep(Struct, frozen=True, omit_defaults=True):
    """What is kept of runs that are over: the younger than `age`, the last `count`, `size` bytes.

    None sets no limit. What any limit excludes is removed, the oldest first.
    """

    age: Seconds | None = None
    count: int | None = None
    size: Bytes | None = None


class Retries(Struct, frozen=True, omit_defaults=True):
    """How often a run that failed is tried again, and the delays before."""

    limit: int = 0
    backoff: Backoff = Backoff()


class JobWatcher(Struct, frozen=True, omit_defaults=True):
    """Whether the callbacks of a run's watcher follow its directory, and how often at least."""

    enabled: bool = True
    interval: Seconds = 3.0


class Job(Struct, frozen=True, omit_defaults=True):
    """A job as resolved: what each of its runs is.

    Exactly one of `program` (the absolute path of a file that each run gets a copy of) and
    `command` (argv) is set. `parent` is the service that it belongs to; `service` and `handler`
    are the absolute paths of Python files, or `module:Class`. `directory` is where relative
    paths in `template` count from. `after` is keyed by the names of jobs.
    """

    parent: str
    job: str
    program: str | None = None
    command: tuple[str, ...] = ()
    service: str | None = None
    handler: str | None = None
    template: Mapping[str, Json] = {}
    required: tuple[str, ...] = ()
    watcher: JobWatcher = JobWatcher()
    after: Mapping[str, After] = {}
    keep: Keep = Keep()
    concurrency: int | None = None
    priority: int = 0
    timeout: Seconds = 0.0
    retries: Retries = Retries()
    schedule: str | None = None
    overlap: Overlap = Overlap.SKIP
    directory: str = ""
    python_path: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    inherited: Mapping[str, str] = {}
    secrets: tuple[str, ...] = ()
    umask: int | None = None
    user: str | None = None
    group: str | None = None
    rlimits: Mapping[str, tuple[int, int]] = {}
    nice: int | None = None
    oom_score_adj: int | None = None
    no_new_privileges: bool = False
    zygote: bool = True
    memory: Bytes | None = None
    cpu: float | None = None
    pids: int | None = None
    stop: Stop = Stop()

    @property
    def name(self) -> str:
        """The job's name, `service.job`."""
        return f"{self.parent}.{self.job}"


class Group(Struct, frozen=True, omit_defaults=True):
    """Components that are restarted together, as the children of an OTP supervisor.

    `components` are bases (`service.component`) in the order in which they are started again.
    More than `intensity` restarts within `period`, and the group gives up.
    """

    components: tuple[str, ...] = ()
    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: int = 3
    period: Seconds = 10.0
    then: Then = Then.STOP


class Lock(Struct, frozen=True, omit_defaults=True):
    """The fully resolved topology of one system: the daemon's only input.

    `components` maps instance names to components, `jobs` the names of jobs to jobs, in the
    file's order. `topology` is the absolute path of the file it came from, `key` names the
    system's runtime directory. `job_concurrency`: how many runs there are at once; None: as
    many as the machine has processors. `job_mirror`: the Redis server that has their rows; it
    may name secrets.
    """

    name: str
    key: str
    topology: str
    base_dir: str
    runtime_dir: str
    components: Mapping[str, Component]
    groups: Mapping[str, Group] = {}
    jobs: Mapping[str, Job] = {}
    job_concurrency: int | None = None
    job_mirror: str | None = None
    start_concurrency: int = 64
    restart_rate: float = 20.0
    format: int = 1


@functools.cache
def applies() -> Mapping[str, Apply]:
    """Return what the change of a component's field needs; what identifies it is not there."""
    hints = typing.get_type_hints(Component, include_extras=True)
    return {
        name: hint.__metadata__[0]
        for name, hint in hints.items()
        if typing.get_origin(hint) is Annotated
    }


def dependencies(lock: Lock) -> dict[str, tuple[str, ...]]:
    """Return the start graph of a lock: instance name to the instance names it depends on."""
    by_base: dict[str, list[str]] = {}
    for name, component in lock.components.items():
        by_base.setdefault(component.base, []).append(name)
        by_base.setdefault(component.service, []).append(name)
    return {
        name: tuple(
            target
            for base in component.depends_on
            for target in by_base.get(base, ())
            if target != name
        )
        for name, component in lock.components.items()
    }


def declared(lock: Plain) -> Plain:
    """Return a plain lock without what its components inherit: the same for every caller."""
    sections: Plain = {
        section: {
            name: {key: value for key, value in one.items() if key != "inherited"}
            for name, one in lock[section].items()
        }
        for section in ("components", "jobs")
        if section in lock
    }
    return {**lock, **sections}


def canonical(plain: Json) -> bytes:
    """Return the one JSON text of a plain value: sorted keys, no spaces, ASCII.

    Text from the environment may hold bytes that are no UTF-8; escaped they survive.
    """
    return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()


def digest(plain: Json) -> str:
    """Return `sha256:…` over the canonical JSON of a plain value."""
    return "sha256:" + digests.sha256(canonical(plain)).hex()
