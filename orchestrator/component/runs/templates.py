"""What users write for their jobs: the parameters of a run, and the hooks around it.

A template is plain data with attributes: it travels as a dict, never as a pickle, so a subclass
may live in the client's own `__main__`. The attributes are those of SOAForPython:

    g_…   all runs have them: work path, program, input and output file, id
    o_…   how a run is watched
    s_…   special ones: name of the program, user, its arguments, and what `register_param` adds

and any other that a job's author wants; the hooks see them all.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

from orchestrator.component.errors import SetupError

if TYPE_CHECKING:
    from orchestrator.component.runs.instance import RunInstance

INTERVAL = 3.0
"""How many seconds lie between two looks at a run's files, unless the template says otherwise."""


class ServiceParamTemplate:
    """The parameters of one run; subclasses may add attributes of their own.

    What is None is taken from the job in the topology. Further keyword arguments become
    attributes.
    """

    not_null_attr: ClassVar[tuple[str, ...]] = (
        "g_work_path",
        "g_input_file",
        "g_output_file",
        "g_service_path",
    )
    """What must be given in the end, here or by the job; subclasses may ask for more."""

    # Where nobody says otherwise; what is not set is not sent, so the job may say it.
    g_service_id: str | None = None
    o_watcher_enabled: bool = True
    o_watcher_interval: float = INTERVAL
    s_service_name: str | None = None
    s_user_id: str | int | None = None

    def __init__(
        self,
        work_path: str | PurePath | None = None,
        service_path: str | PurePath | None = None,
        input_file: str | PurePath | None = None,
        output_file: str | PurePath | None = None,
        **kwargs: Any,
    ) -> None:
        self.g_work_path = _text(work_path)
        self.g_service_path = _text(service_path)
        self.g_input_file = _text(input_file)
        self.g_output_file = _text(output_file)
        self.s_service_args: dict[str, Any] = {}
        self.s_param_set: set[str] = set()
        for name, value in kwargs.items():
            setattr(self, name, value)

    @property
    def o_watcher_interal(self) -> float:
        """The interval, by the name that it had first."""
        return self.o_watcher_interval

    @o_watcher_interal.setter
    def o_watcher_interal(self, value: float) -> None:
        self.o_watcher_interval = value

    def register_param(self, param_dict: Mapping[str, Any]) -> None:
        """Add special parameters: each becomes the attribute `s_NAME`.

        Raises:
            SetupError: A name is no identifier.
        """
        for name, value in param_dict.items():
            if not f"s_{name}".isidentifier():
                raise SetupError(f"cannot register the parameter {name!r}: it is no identifier")
            setattr(self, f"s_{name}", value)
            self.s_param_set.add(f"s_{name}")

    def get_param(self) -> set[str]:
        """Return the names of the attributes that were registered."""
        return set(self.s_param_set)

    def set_service_param(self, param_dict: Mapping[str, Any]) -> None:
        """Add arguments of the program; it is given each as one word `k=v`."""
        self.s_service_args.update({str(key): value for key, value in param_dict.items()})

    def missing(self) -> tuple[str, ...]:
        """Return the names in `not_null_attr` that have no value here."""
        return tuple(
            name for name in self.not_null_attr if getattr(self, name, None) in (None, "")
        )

    def to_plain(self) -> dict[str, Any]:
        """Return what is set, as data that JSON can carry; `from_plain` takes it back exactly.

        Raises:
            SetupError: An attribute has a type that cannot be sent; every such is named.
        """
        found: dict[str, Any] = {}
        mistakes = []
        for name, value in vars(self).items():
            if name.startswith("_") or value is None:
                continue
            if name in ("s_service_args", "s_param_set") and not value:
                continue
            try:
                found[name] = _words(value) if name == "s_service_args" else plain(value)
            except TypeError as error:
                mistakes.append(f"cannot send the attribute {name!r}: {error}")
        if mistakes:
            raise SetupError(mistakes)
        return found

    @classmethod
    def from_plain(cls, found: Mapping[str, Any]) -> Self:
        """Return the template that `to_plain` has described.

        A subclass is made without calling its `__init__`: its arguments are nobody's business.

        Raises:
            SetupError: It describes none.
        """
        made = cls.__new__(cls)
        ServiceParamTemplate.__init__(made)
        try:
            for name, value in found.items():
                setattr(made, name, exact(value))
            made.s_param_set = set(made.s_param_set or ())
            made.s_service_args = dict(made.s_service_args or {})
        except (TypeError, ValueError, KeyError, ArithmeticError) as error:
            raise SetupError(f"cannot read the template: {error}") from error
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ServiceParamTemplate) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.to_plain().items())
        return f"{type(self).__name__}({given})"


class ServiceProgramTemplate:
    """What is done before a program runs; subclass it, or write a plain class with these methods.

    The run's directory is there, and the working directory, and the program has been copied into
    it. `self.param_template` are the parameters, `self.work_dir` is the directory.
    """

    param_template: ServiceParamTemplate
    work_dir: Path
    run: RunInstance

    def __init__(self, param_template: ServiceParamTemplate | None = None) -> None:
        if param_template is not None:
            self.param_template = param_template

    def build(self) -> None:
        """Do what is to be done before the input files come."""

    def prepare_input_file(self) -> None:
        """Bring the input file into the run's directory: from a path or a URL (http, ftp).

        Raises:
            OrchestratorError: It cannot be brought.
        """
        self.run.bring_input()


class WatcherHandler:
    """What follows a run; subclass it, or write a plain class with some of these methods.

    `instance` is the run: `instance.param_template`, `instance.work_dir`,
    `instance.set_progress(…)`, `instance.set_state(…)`.
    """

    def before_watch_callback(self, instance: RunInstance) -> None:
        """Called once, before the program starts."""

    def file_change_callback(self, file_list: list[str], instance: RunInstance) -> int | None:
        """Called at each interval, when files have changed, and at the end; -1 means: no more."""

    def after_watch_callback(self, file_list: list[str], instance: RunInstance) -> None:
        """Called once at the end, however it came, with the files that there are then."""


def _words(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a program: what is neither text nor number as its text."""
    return {
        name: value if isinstance(value, (bool, int, float, str)) else str(value)
        for name, value in arguments.items()
    }


def _text(path: str | PurePath | None) -> str | None:
    return None if path is None else str(path)


def plain(value: Any) -> Any:
    """Return a value as JSON can carry it, what it cannot in the marked maps of our messages.

    Raises:
        TypeError: There is no form for its type.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("__") for key in value):
            return {key: plain(item) for key, item in value.items()}
        return {"__map__": [[plain(key), plain(item)] for key, item in value.items()]}
    if isinstance(value, (set, frozenset)):
        return {"__set__": True, "value": sorted(map(plain, value), key=repr)}
    for kind, (marker, shown, _) in _MARKED.items():
        if isinstance(value, kind):
            return {marker: True, "as_str": shown(value)}
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(
        f"a {type(value).__name__} is no plain data: None, bool, int, float, str, bytes, Path, "
        "Decimal, datetime, UUID, and dict, list, tuple and set of these"
    )


def exact(value: Any) -> Any:
    """Return what `plain` has described."""
    if isinstance(value, list):
        return [exact(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "__map__" in value:
        return {_key(exact(key)): exact(item) for key, item in value["__map__"]}
    if "__set__" in value:
        return {_key(exact(item)) for item in value["value"]}
    for marker, _, read in _MARKED.values():
        if value.get(marker) is True:
            return read(value["as_str"])
    return {key: exact(item) for key, item in value.items()}


def _key(value: Any) -> Any:
    return tuple(map(_key, value)) if isinstance(value, list) else value


_MARKED: Mapping[type, tuple[str, Callable[[Any], str], Callable[[str], Any]]] = {
    float: ("__float__", str, float),  # JSON has no infinity
    Decimal: ("__decimal__", str, Decimal),
    UUID: ("__uuid__", str, UUID),
    datetime: ("__datetime__", datetime.isoformat, datetime.fromisoformat),
    bytes: ("__bytes__", lambda data: base64.b64encode(data).decode(), base64.b64decode),
}
"""By type: its marker, how it is shown as text, and how that is read."""
