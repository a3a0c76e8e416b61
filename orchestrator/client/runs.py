"""Runs of jobs as the daemon reports them, and what may be said of one without asking.

Nothing here waits or sends: the synchronous and the asynchronous client share it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Protocol, TypedDict, runtime_checkable

from orchestrator.client.rows import Event, RunRow
from orchestrator.errors import RequestFailed, UnknownName
from orchestrator.model import jobs as words
from orchestrator.model import names
from orchestrator.model.jobs import RunCondition, RunState

UNFINISHED = tuple(state.value for state in RunState if not state.is_over)
FINISHED = tuple(state.value for state in RunState if state.is_over)


class JobRow(TypedDict):
    """One job of the system as the daemon reports it; `template` has its attributes."""

    name: str
    service: str
    job: str
    program: str | None
    command: list[str] | None
    handler: str | None
    template: dict[str, Any]
    required: list[str]
    concurrency: int | None
    priority: int
    schedule: str | None
    queued: int
    running: int


@runtime_checkable
class Plain(Protocol):
    """A template that knows itself as plain data, as `ServiceParamTemplate` does."""

    def to_plain(self) -> Mapping[str, Any]:
        """Return the attributes by name."""


Template = Mapping[str, Any] | Plain
"""The attributes of a run: a mapping, or an instance of `ServiceParamTemplate`."""

_ID = "g_service_id"
_ARGS = "s_service_args"
_NAME = "s_service_name"
_PROGRAM = "g_service_path"


def is_finished(row: RunRow) -> bool:
    """Tell whether nothing more happens to the run."""
    return row["state"] in FINISHED


def sentence(row: RunRow) -> str:
    """Return in a few words how the run is: `lab.sim/1 failed: exit 3`."""
    head = f"{row['name']} {row['state']}"
    why = reason(row)
    return f"{head}: {why}" if why else head


def reason(row: RunRow) -> str:
    """Return why the run is as it is; empty when there is nothing to say."""
    if row["state"] in ("building", "running"):
        return row["text"] or ""
    if row["state"] == "queued":
        return row["why"] or ""
    if row["message"]:
        return row["message"] if row["message"] != row["state"] else ""
    if row["state"] != "failed":
        return ""
    return f"exit {row['exit_code']}" if row["exit_code"] else row["result"] or ""


def submission(
    job: str,
    template: Template | None = None,
    *,
    args: Mapping[str, Any] | None = None,
    id: str | None = None,  # noqa: A002 - what everybody calls it
    priority: int | None = None,
    after: After = (),
    last_good: bool = False,
    attributes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the parameters of a `submit` request.

    It always names the run. Submitted a second time it is the same run, so who does not know
    whether the daemon has heard it may simply say it again.
    """
    given = {**plain(template), **(attributes or {})}
    own = given.pop(_ID, None) or given.pop("service_id", None)
    params: dict[str, Any] = {
        "job": job,
        "template": given,
        "args": {name: str(value) for name, value in (args or {}).items()},
        "id": id or own or new_id(),
        "after": _conditions(after),
        "use": "last-good" if last_good else "new",
    }
    if priority is not None:
        params["priority"] = priority
    return params


def _conditions(after: After) -> dict[str, Any]:
    if isinstance(after, Mapping):
        return dict(after)
    wanted: dict[str, Any] = {}
    for one in after:
        if isinstance(one, Mapping):
            wanted.update(one)
        else:
            wanted[one.id if isinstance(one, RunView) else one] = RunCondition.SUCCEEDED.value
    return wanted


def selection(
    ids: Sequence[str] = (),
    jobs: Sequence[str] = (),
    states: Sequence[str] = (),
    limit: int | None = None,
) -> dict[str, Any]:
    """Return the parameters of a `runs` request; what is not said does not limit."""
    given = {"ids": list(ids), "jobs": list(jobs), "states": list(states), "limit": limit}
    return {name: value for name, value in given.items() if value}


def plain(template: Template | None) -> dict[str, Any]:
    """Return the attributes of a template, without those that are None.

    Raises:
        RequestFailed: It is no template.
    """
    given: object = template.to_plain() if isinstance(template, Plain) else template or {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        message = f"cannot submit {template!r}: a template is a mapping, or has to_plain()"
        raise RequestFailed("bad-run", message)
    return {name: value for name, value in given.items() if value is not None}


def id_of(word: str) -> str:
    """Return the id of a run that is named as `service.job/id`, or by its id."""
    return word.rpartition("/")[2]


def new_id() -> str:
    """Return a name for a run that is submitted now."""
    now = time.time_ns() // 1_000_000
    return names.run_id(now, int.from_bytes(os.urandom(4), "big") % names.SALTS)


def job_of(template: Template, jobs: Iterable[JobRow]) -> str:
    """Return the name of the job that a template is for.

    It is the one that `s_service_name` names, else the one whose program has the file name of
    `g_service_path`.

    Raises:
        UnknownName: No job fits.
        RequestFailed: Several jobs fit, or the template names neither.
    """
    given = {words.attribute(name): value for name, value in plain(template).items()}
    known = list(jobs)
    word, program = given.get(_NAME), given.get(_PROGRAM)
    found: list[str] = []
    if word:
        found = [row["name"] for row in known if word in (row["name"], row["job"])]
    if not found and program:
        name = PurePath(program).name
        found = [r["name"] for r in known if r["program"] and PurePath(r["program"]).name == name]
    if not word and not program:
        message = f"cannot tell the job of a template without {_NAME} and {_PROGRAM}"
        raise RequestFailed("bad-run", message)
    if not found:
        every = [row["name"] for row in known]
        wanted = str(word or program)
        raise UnknownName(wanted, names.near(wanted, every))
    if len(found) > 1:
        message = f"several jobs fit the template: {', '.join(found)}; say which as {_NAME}"
        raise RequestFailed("bad-run", message)
    return found[0]


class RunView:
    """One run, as it was when last looked at; `row` has all that the daemon tells."""

    def __init__(self, row: RunRow) -> None:
        self.row = row

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {sentence(self.row)}>"

    @property
    def id(self) -> str:
        """The run's name among all runs of the system."""
        return self.row["id"]

    @property
    def job(self) -> str:
        """The job, as `service.job`."""
        return self.row["job"]

    @property
    def state(self) -> str:
        """One of `queued`, `building`, `running`, `succeeded`, `failed`, `cancelled`."""
        return self.row["state"]

    @property
    def is_finished(self) -> bool:
        """Whether it has ended."""
        return is_finished(self.row)

    @property
    def succeeded(self) -> bool:
        """Whether it has ended well."""
        return self.row["state"] == "succeeded"

    @property
    def exit_code(self) -> int | None:
        """What the program ended with; None when it has not, or was killed by a signal."""
        return self.row["exit_code"]

    @property
    def message(self) -> str:
        """Why it is as it is, in words; empty when there is nothing to say."""
        return reason(self.row)

    @property
    def progress(self) -> float | None:
        """How far it is, from 0 to 1, when a hook tells."""
        return self.row["progress"]

    @property
    def custom(self) -> Mapping[str, Any]:
        """What the job's hooks keep for everybody to read."""
        return self.row["custom"]

    @property
    def template(self) -> Mapping[str, Any]:
        """Its attributes, those of the job included."""
        return self.row["template"]

    def path(self, name: str = "") -> Path:
        """Return the path of a file in its run directory, or of the directory itself.

        Raises:
            RequestFailed: It has none yet: nothing of it was started.
        """
        if self.row["run_dir"] is None:
            raise RequestFailed("not-started", f"{sentence(self.row)}; it has no directory yet")
        return Path(self.row["run_dir"], name)


Conditions = Mapping[str, str | Mapping[str, str]]
After = Iterable[str | Conditions | RunView] | Conditions
"""Runs that come first: ids or runs that must succeed, and `{id: "failed"}` for other ends."""


class Following:
    """Which runs are still awaited; what comes of them changes it."""

    __slots__ = ("_seq", "is_over", "pending", "rows")

    def __init__(self, ids: Iterable[str]) -> None:
        self.pending = dict.fromkeys(ids)
        self.rows: dict[str, RunRow] = {}
        self.is_over = False
        """Whether the system as a whole has stopped."""
        self._seq = 0

    def begin(self, rows: Iterable[RunRow], seq: int) -> list[RunRow]:
        """Take in rows as they are; return those that are not known so.

        `seq` is the number of the last item of the stream that they contain.
        """
        self._seq = seq
        return [row for row in rows if self._look(row)]

    def take(self, event: Event) -> RunRow | None:
        """Take in an item of the stream; return the row of an awaited run, if it is news."""
        kind = event["kind"]
        if kind == "run" and event.get("seq", self._seq + 1) > self._seq:
            row = event["run"]
            return row if row["id"] in self.pending and self._look(row) else None
        if kind == "system":
            self.is_over = event["state"] == "stopped"
        return None

    def _look(self, row: RunRow) -> bool:
        number = row["id"]
        is_news = self.rows.get(number) != row
        self.rows[number] = row
        if is_finished(row):
            self.pending.pop(number, None)
        return is_news

    def describe(self) -> str:
        """Return the awaited runs, with how they are."""
        known = [sentence(self.rows[one]) for one in self.pending if one in self.rows]
        more = len(self.pending) - 10
        return "; ".join(known[:10]) + (f" and {more} more" if more > 0 else "")
