"""The run as its hooks see it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from orchestrator.component.runs import attendant, inputs
from orchestrator.component.runs.attendant import Attendant
from orchestrator.component.runs.order import RunOrder
from orchestrator.component.runs.progress import Progress
from orchestrator.component.runs.templates import ServiceParamTemplate


class RunInstance:
    """One run: what it was given, and what its hooks say of it.

    Attributes:
        param_template: The run's parameters.
        work_dir: Its directory: the working directory of the program and of all hooks.
        service: The object with `build` and `prepare_input_file`; None when there is none.
        exit_code: How the program ended, negative for a signal; None before it has.
    """

    def __init__(
        self,
        order: RunOrder,
        template: ServiceParamTemplate,
        progress: Progress,
        attending: Attendant,
    ) -> None:
        self.param_template = template
        self.work_dir: Path = order.run_dir
        self.id = order.id
        self.name = order.name
        self.job = order.job
        self.attempt = order.attempt
        self.service: Any = None
        self._directory = order.directory
        self._progress = progress
        self._attendant = attending

    @property
    def run_dir(self) -> Path:
        """The run's directory, by its other name."""
        return self.work_dir

    @property
    def output(self) -> Path:
        """The file with what the program says."""
        return self.work_dir / "output"

    @property
    def exit_code(self) -> int | None:
        """How the program ended, negative for a signal; None while nobody knows."""
        ended = self._attendant.exit
        found = None if ended is None else attendant.number(ended)
        return found if isinstance(found, int) else None

    @property
    def cancelled(self) -> bool:
        """Whether the run is to stop; a hook that takes long looks at it and returns."""
        return self._attendant.is_stopping

    @property
    def custom(self) -> Mapping[str, Any]:
        """What `set_state` was given so far."""
        return MappingProxyType(self._progress["custom"])

    def set_progress(
        self, done: float, total: float | None = None, text: str | None = None
    ) -> None:
        """Say how far the run is: from 0 to 1, or so many of a total.

        Args:
            done: What is done; with `total` in its unit.
            total: All that there is to do.
            text: A few words beside it; with a total they are "DONE of TOTAL" by default.

        Raises:
            ValueError: A number makes no sense.
        """
        part = float(done) if total is None else (float(done) / total if total else 1.0)
        if not 0.0 <= part < float("inf"):
            raise ValueError(f"cannot set the progress to {done!r} of {total or 1!r}")
        if text is None:
            text = self._progress["text"] if total is None else f"{done:g} of {total:g}"
        self._progress.set(progress=min(part, 1.0), text=str(text)[:500])

    def set_state(self, **custom: Any) -> None:
        """Keep values that every client of the run can read; None is kept too.

        Raises:
            ValueError: They are no plain data, or too large.
        """
        self._progress.add(custom)

    def bring_input(self) -> None:
        """Bring the template's input file into the run's directory.

        Raises:
            OrchestratorError: It cannot be brought.
        """
        given: Any = self.param_template.g_input_file
        for source in [given] if isinstance(given, str) else given or ():
            inputs.bring(str(source), self._directory, self.work_dir)
