"""Whether the code of a job can be run, found out when a run is submitted, by a child process.

The child imports the hooks and keeps a copy of what they consist of; the run gets that copy,
whatever becomes of the files. As long as the files are those that it has read its answer holds,
so that a child is started once for each version of the code, not for each run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field, structs

from orchestrator import process as processes
from orchestrator.daemon import guests
from orchestrator.daemon.runner import Runner
from orchestrator.errors import JournalError, RequestFailed, SpawnError
from orchestrator.model import jobs
from orchestrator.model.topology import Job
from orchestrator.model.units import Seconds

logger = logging.getLogger(__name__)

TIMEOUT: Seconds = 60.0
"""How long the import of a job's hooks may take."""

_ENTRY = "orchestrator.component.jobcode"
_REMEMBERED = "code of "


class Code(Struct, frozen=True):
    """Hooks that can be run: where they are, their copy, and what they need of a template.

    `files` has time, size and inode of what was read, by path.
    """

    service: str | None = None
    handler: str | None = None
    snapshot: str | None = None
    required: tuple[str, ...] = ()
    files: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def is_fresh(self) -> bool:
        """Whether the files are as they were read."""
        return all(_stamp(path) == tuple(stamp) for path, stamp in self.files.items())


NO_CODE = Code()

_Question = tuple[str | None, str | None, tuple[str, ...], str, tuple[str, ...], str | None]


class CodeChecks:
    """What is known of the code of each job.

    Args:
        loop: Where it lives.
        runner: Whose jobs they are; its unfinished runs need their copies.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, runner: Runner) -> None:
        self._loop = loop
        self._runner = runner
        self._good: dict[str, tuple[_Question, Code]] = {}
        self._asking: dict[_Question, asyncio.Future[Code]] = {}

    def known(self, job: Job) -> Code | None:
        """Return a job's code when there is nothing to find out, else None."""
        question = _question(job)
        if question is None:
            return NO_CODE
        asked, code = self._good.get(job.name, (None, NO_CODE))
        return code if asked == question and code.is_fresh else None

    def last_good(self, job: Job) -> Code:
        """Return the code of a job as it could last be run, by this daemon or one before.

        Raises:
            RequestFailed: There is none.
        """
        if job.name in self._good:
            return self._good[job.name][1]
        kept = self._runner.journal.meta().get(_REMEMBERED + job.name)
        if kept:
            with contextlib.suppress(ValueError, TypeError):
                code = Code(**json.loads(kept))
                if code.snapshot and Path(code.snapshot).is_dir():
                    return code
        message = f"there is no code of {job.name} that could be run before"
        raise RequestFailed("bad-code", message)

    async def find(self, job: Job) -> Code:
        """Find out about a job's code; those who ask the same meanwhile share the answer.

        Raises:
            RequestFailed: It cannot be run; the message says why, with file and line.
        """
        question = _question(job)
        if question is None:
            return NO_CODE
        asking = self._asking.get(question)
        if asking is None:
            asking = self._asking[question] = self._loop.create_future()
            # Whoever asks may have gone by then.
            asking.add_done_callback(lambda done: done.exception())
            try:
                answer = await self._loop.run_in_executor(None, self._ask, job, question)
                asking.set_result(self._take(job, question, answer))
            except Exception as error:  # noqa: BLE001 - raised for each who asks
                asking.set_exception(error)
            finally:
                del self._asking[question]
        return await asking

    def _ask(self, job: Job, question: _Question) -> dict[str, Any]:
        """Ask a child; called in a thread."""
        service, handler, python_path, directory, names, _ = question
        user = guests.other(job.user)
        store = Path(self._runner.place.base_dir) / "data" / "code"
        if user is not None:
            # His code is not for us to run, nor what he has written for others to read.
            store = store / str(user.pw_uid)
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        if user is not None:
            os.chown(store, user.pw_uid, user.pw_gid, follow_symlinks=False)
            for passed in (store.parent, store.parent.parent, store.parent.parent.parent):
                passed.chmod(passed.stat().st_mode & 0o7777 | 0o001)
        request = {
            "service": service,
            "handler": handler,
            "python_path": python_path,
            "directory": directory,
            "names": names,
            "snapshots": str(store),
        }
        try:
            finished = processes.run(
                (sys.executable, "-P", "-m", _ENTRY),
                input=json.dumps(request).encode() + b"\n",
                timeout=TIMEOUT,
                environment={**job.inherited, **job.environment},
                cwd=directory or None,
                user=(user.pw_uid, user.pw_gid) if user is not None else None,
            )
        except (processes.Overdue, SpawnError) as error:
            raise RequestFailed(
                "bad-code", f"cannot import the code of {job.name}: {error}"
            ) from error
        try:
            answer = json.loads(finished.stdout)
        except ValueError as error:
            last = finished.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            message = f"cannot import the code of {job.name}: its import ended the process"
            raise RequestFailed("bad-code", message + (f": {last}" if last else "")) from error
        return dict(answer)

    def _take(self, job: Job, question: _Question, answer: Mapping[str, Any]) -> Code:
        problem = answer.get("error")
        if problem:
            where = ":".join(str(problem[k]) for k in ("file", "line") if problem.get(k))
            said = f"{where}: {problem['message']}" if where else str(problem["message"])
            message = f"the code of {job.name} cannot be run: {said}"
            if job.name in self._good or _REMEMBERED + job.name in self._runner.journal.meta():
                message += "; the last that could be is still there: --last-good"
            raise RequestFailed("bad-code", message)
        code = Code(
            answer.get("service"),
            answer.get("handler"),
            answer.get("snapshot"),
            tuple(answer.get("required") or ()),
            {path: tuple(stamp) for path, stamp in (answer.get("files") or {}).items()},
        )
        _, before = self._good.get(job.name, (None, NO_CODE))
        self._good[job.name] = (question, code)
        if before.snapshot != code.snapshot:
            with contextlib.suppress(JournalError):
                plain = json.dumps(structs.asdict(code))
                self._runner.journal.remember(**{_REMEMBERED + job.name: plain})
            self._drop_unused()
        return code

    def _drop_unused(self) -> None:
        """Remove copies that no run will need, nor anybody who asks for the last good one."""
        if len(self._asking) > 1:
            return  # What another child is about to keep is in nobody's hands yet.
        kept = {
            run.request.get("code", {}).get("snapshot")
            for run in self._runner.runs.unfinished.values()
        }
        kept |= {code.snapshot for _, code in self._good.values()}
        for name, text in self._runner.journal.meta().items():
            if name.startswith(_REMEMBERED):
                kept.add(json.loads(text).get("snapshot"))
        store = Path(self._runner.place.base_dir) / "data" / "code"
        found = (path for path in (*store.glob("*"), *store.glob("[0-9]*/*")))
        unused = [path for path in found if str(path) not in kept and (path / "tree").is_dir()]
        if unused:
            self._loop.run_in_executor(None, _remove, unused)


def _remove(paths: list[Path]) -> None:
    import shutil  # noqa: PLC0415 - a daemon without jobs starts sooner

    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def _question(job: Job) -> _Question | None:
    """Return what the answer depends on beside the files; None when there is no code."""
    names = [job.job]
    if job.program:
        names.append(Path(job.program).stem)
    names = list(dict.fromkeys(names))
    conventional = tuple(
        place.format(name)
        for place in (jobs.SERVICE_PLACE, jobs.HANDLER_PLACE)
        for name in names
        if os.path.exists(os.path.join(job.directory, place.format(name)))  # noqa: PTH110, PTH118
    )
    if not (job.service or job.handler or conventional):
        return None
    return (job.service, job.handler, job.python_path, job.directory, tuple(names), job.user)


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - for each submit
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)
