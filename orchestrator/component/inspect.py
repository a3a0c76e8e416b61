"""What handlers declare, as plain data: `python -m orchestrator.component.inspect`.

Reads one JSON object per line from stdin, and answers each with one line on stdout:

    {"name", "handler", "python_path", "mode"}   a handler
    {"name", "class", "python_path"}             a service class
    {"name", "package", "python_path"}           a component's package
    {"name", "module"}                           a Python file of settings or of a configuration

The code runs here, in a process of its own, so that whoever validates a topology needs not import
it. Whatever that code prints goes to stderr, and it reads nothing from stdin.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from orchestrator.component import handlers, loader, settings, streams
from orchestrator.component.errors import SetupError
from orchestrator.component.handlers import Handler


def inspect(request: dict[str, Any]) -> dict[str, Any]:
    """Return what one handler declares, or where and why it cannot be read."""
    answer: dict[str, Any] = {
        "name": request.get("name"),
        "file": None,
        "main": False,
        "config": {"required": {}, "optional": {}},
        "connections": {"in": {}, "out": {}},
        "states": {"in": {}, "out": {}},
        "error": None,
    }
    before, path = set(sys.modules), list(sys.path)
    try:
        if "module" in request:
            configuring = importlib.import_module("orchestrator.component.configuring")
            answer |= configuring.module_values(Path(request["module"]))
            return answer
        if "class" in request:
            _service(request)
            answer.update(_configurations([], None, request))
            return answer
        if "package" in request:
            asked = request.get("configure") or {}
            with settings.provided(settings.loaded(asked.get("settings") or {})):
                answer.update(inspect_package(request))
            return answer
        handler = handlers.load(request["handler"], tuple(request.get("python_path") or ()))
        answer["file"] = handler.origin.file
        answer["main"] = handler.main is not None
        answer["config"] = handler.config.plain()
        mistakes: list[str] = []
        for group, declared in (("connections", _connections), ("states", _states)):
            try:
                answer[group] = declared(handler)
            except SetupError as error:
                mistakes += error.mistakes
        if mistakes:
            raise SetupError(mistakes)  # noqa: TRY301 - answered as all the others are
        answer["config_model"] = handler.has_config_model
        answer["takes_settings"] = handler.on_settings is not None
        answer["setup_config"] = handler.setup_config is not None
        answer.update(_configurations([], None, request))
    except SetupError as error:
        answer["error"] = streams.error(error)
    finally:
        # Two components may have neighbours of the same name.
        _forget(set(sys.modules) - before)
        sys.path[:] = path
        sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, loader.SourceFinder)]
    return answer


def _forget(names: set[str]) -> None:
    """Take the user's modules out, whoever loaded them: what stands below one is his too."""
    loaded = {name: getattr(sys.modules[name], "__loader__", None) for name in names}
    own = {
        name.partition(".")[0]
        for name, loaded_by in loaded.items()
        if isinstance(loaded_by, loader.SourceLoader)
    }
    for name in names:
        if name.partition(".")[0] in own:
            del sys.modules[name]


def _service(request: dict[str, Any]) -> None:
    """Raise `SetupError` unless the request's `module:Class` is there, and a service that can run.

    With `service: false` it may be any class.
    """
    hosting = importlib.import_module("orchestrator.component.hosting")
    module, _, name = request["class"].partition(":")
    code = loader.Code(module, tuple(request.get("python_path") or ()))
    if request.get("service", True):
        hosting.check(hosting.service_class(code.module, name))
    elif not callable(getattr(code.module, name, None)):
        raise SetupError(f"{module} has no class {name!r}")


def inspect_package(request: dict[str, Any]) -> dict[str, Any]:
    """Return what a component's package declares.

    Returns:
        `file`; `declared`, the name that its COMPONENT has in its own code; `exposed`, which of
        CONF, CONFIGURATION, Client and Mock there are; `effects`, what its import has done, when
        the request has `layout`; `commands`, name, help and usage of its
        administration's. An `error` has a `fault`: import, wrong, admin, or what is missing.
    """
    packages = importlib.import_module("orchestrator.component.packages")
    path = tuple(request.get("python_path") or ())
    effects: list[dict[str, Any]] = []
    try:
        with _recorded(request, path) as effects:
            package = packages.load(request["package"], path)
    except SetupError as error:
        return {"error": {**streams.error(error), "fault": "import"}}
    if mistake := package.mistake():
        fault = "wrong" if package.value is not None else package.wanted
        return {"error": {**streams.error(SetupError(mistake)), "fault": fault}}
    administration = importlib.import_module("orchestrator.component.admin")
    declared = package.declared  # Before it is called as in the topology.
    service, _, name = str(request["name"]).partition(".")
    try:
        component = package.component(service, name)
    except SetupError as error:
        return {"error": {**streams.error(error), "fault": "wrong"}}
    try:
        configured = _configurations(component.confs, component, request)
    except SetupError as error:
        return {"error": {**streams.error(error), "fault": "configuration"}}
    try:
        administrator = administration.of_package(request["package"], service)
        commands = administration.described(administrator, component)
    except SetupError as error:
        return {"error": {**streams.error(error), "fault": "admin"}}
    return {
        **configured,
        "takes_settings": callable(getattr(component, "on_settings", None)),
        "file": package.marker.__file__,
        "effects": effects,
        "commands": commands,
        "declared": declared,
        "exposed": [name for name in packages.EXPOSED if package.exposed(name) is not None],
    }


def _configurations(confs: list[Any], component: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Return what configurations there are, when the request asks for them."""
    asked = request.get("configure")
    if not asked:
        return {}
    configuring = importlib.import_module("orchestrator.component.configuring")
    answer: dict[str, Any] = configuring.described(
        confs, component, {**asked, "package": request.get("package")}
    )
    return answer


@contextlib.contextmanager
def _recorded(request: dict[str, Any], path: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """Record what is done within the block, if that is asked for."""
    if not request.get("layout"):
        yield []
        return
    neutrality = importlib.import_module("orchestrator.component.neutrality")
    # These the loader itself changes.
    sys.path[:0] = [one for one in path if one not in sys.path]
    home = Path(path[0] if path else ".").joinpath(*request["package"].split("."))
    with neutrality.recording(path, str(home / "__init__.py")) as effects:
        yield effects


def main() -> int:
    """Answer requests until stdin ends, or whoever asks is gone: an import may never end."""
    _die_with_the_asker()
    requests, answers = streams.private()
    with requests, answers:
        for line in requests:
            if line.strip():
                answers.write(json.dumps(inspect(json.loads(line))) + "\n")
                answers.flush()
    return 0


def _die_with_the_asker() -> None:
    """Be killed when our parent ends (prctl(2), PR_SET_PDEATHSIG), however that ends."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)
    answers = select.poll()
    answers.register(1, 0)
    if answers.poll(0):
        sys.exit(1)  # It was gone before: nobody reads what we write.


def _connections(handler: Handler) -> dict[str, Any]:
    found: dict[str, Any] = {"in": {}, "out": {}}
    for end in handler.ends_as_written():
        lines = handler.origin.lines_below("connection_models", end.type.side, end.name)
        found[end.type.side][end.name] = {**end.plain(), "lines": lines}
    return found


def _states(handler: Handler) -> dict[str, Any]:
    found: dict[str, Any] = {"in": {}, "out": {}}
    for state in handler.states_as_written():
        key = ("state_models", state.type.side, state.name)
        lines = handler.origin.lines_below(*key)
        found[state.type.side][state.name] = {**state.plain(), "lines": lines}
    return found


if __name__ == "__main__":
    sys.exit(main())
