"""`orch init service NAME` and `orch init component SERVICE.NAME`: packages to begin with.

What is written validates, with `--layout` too, runs, and has a test. No file that is there is
written over, except that a component is added to the topology and to the service's own file.
"""

from __future__ import annotations

import copy
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator import files
from orchestrator.cli.session import Session
from orchestrator.config import compose, layout, paths
from orchestrator.config.source import Source
from orchestrator.errors import ExitCode, OrchestratorError, UsageError
from orchestrator.model import names

FIRST_PORT = 8000
"""The port of a service's first component; those after it count on."""

_SERVICE = {
    "$pkg/__init__.py": '"""The service $service: what its components share."""\n',
    "$pkg/__service__.md": """\
# $service

The components of this service:

""",
    "$pkg/admin/__init__.py": '"""How the service $service is configured and administered."""\n',
    "$pkg/admin/conf.py": '''\
"""The configuration of the service: what all of its components share."""

from orchestrator.component import ConfField, ConfigurationManager


class _Manager(ConfigurationManager):
    title = ConfField("$service")


CONFIGURATION = _Manager("service")
CONF = CONFIGURATION.to_conf()
''',
    "$pkg/admin/commands.py": '''\
"""The commands of the service: `orch admin` lists them."""

from orchestrator.component import Command, CommandArg

COMMANDS = [Command("greet", args=[CommandArg("name", nargs="?", default="you")])]


def cmd_greet(component, parsed_args):
    """Greet somebody in the name of a component."""
    print(f"{component.full_name} greets {parsed_args.name}")
''',
}

_COMPONENT = {
    "$pkg/$mod/__init__.py": '''\
"""The component $component of the service $service."""

from $pkg.$mod.client import Client, Mock
from $pkg.$mod.conf import CONF, CONFIGURATION

__all__ = ["CONF", "CONFIGURATION", "Client", "Mock"]
''',
    "$pkg/$mod/conf.py": '''\
"""The configuration of the component."""

from orchestrator.component import ConfField, ConfigurationManager


class _Manager(ConfigurationManager):
    port = ConfField($port)
    greeting = ConfField("hello from $service.$component")


CONFIGURATION = _Manager("component")
CONF = CONFIGURATION.to_conf()
''',
    "$pkg/$mod/client.py": '''\
"""How others speak to the component, and what stands in for it."""

from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.request import urlopen

from $pkg.$mod.conf import CONF


class Client:
    """Asks the component."""

    def ask(self):
        with urlopen(f"http://127.0.0.1:{CONF.port}/", timeout=10) as response:
            return response.read().decode()


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"mock")


class Mock:
    """Answers in place of the component: `orch up --mock $service.$component`."""

    def run(self):
        HTTPServer(("127.0.0.1", CONF.port), _Answer).serve_forever()
''',
    "$pkg/$mod/__component__.py": '''\
"""What runs as $service.$component."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from orchestrator.component import Component

from $pkg.$mod.conf import CONF


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(CONF.greeting.encode())


class _Component(Component):
    tells_ready = True

    def run(self):
        with ThreadingHTTPServer(("127.0.0.1", CONF.port), _Answer) as server:
            self.ready()
            server.serve_forever()


COMPONENT = _Component("$service", "$component", [CONF])
''',
    "tests/test_${pkg}_$mod.py": '''\
"""Run it with `python -m pytest`."""

import socket
import time

from $pkg.$mod import CONF, Client
from $pkg.$mod.__component__ import COMPONENT


def test_the_component_answers_and_ends_in_order(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        CONF.port = free.getsockname()[1]
    started = COMPONENT.start_in_process(tmp_path)
    try:
        assert _asked(started) == CONF.greeting
    finally:
        started.terminate()
        assert started.wait(30) == 0


def _asked(started):
    for _ in range(300):
        assert started.is_alive()
        try:
            return Client().ask()
        except OSError:
            time.sleep(0.1)
    raise AssertionError("it does not answer")
''',
}


def make(session: Session, kind: str, name: str) -> int:
    """Write a service with its first component, or one more component.

    Raises:
        UsageError: `name` cannot be a service's or a component's.
        OrchestratorError: Something of it is there already, or its service is not.
    """
    service, dot, component = name.partition(".")
    if kind == "service" and dot:
        raise UsageError(f"cannot make the service {name!r}: a service's name has no dot")
    if kind == "component" and not component:
        raise UsageError(f"cannot make the component {name!r}: say SERVICE.{name}")
    component = component or "api"
    for word in (service, component):
        if not names.is_name(word) or not _module(word).isidentifier():
            raise UsageError(
                f"cannot call a {kind} {word!r}: use lower-case letters, digits and inner "
                "hyphens, a letter first"
            )
    # Where imports are looked up: beside the topology.
    root = Path(session.options.file).parent if session.options.file else Path()
    package = root / _module(service)
    markers = [package / one for one in layout.SERVICE_MARKERS]
    marker = next((one for one in markers if one.is_file()), markers[0])
    if kind == "component" and not marker.is_file():
        raise OrchestratorError(
            f"cannot make {name}: there is no service package {package}; "
            f"orch init service {service} makes one"
        )
    given = {
        "service": service,
        "component": component,
        "pkg": package.name,
        "mod": _module(component),
        "port": str(FIRST_PORT + len(list(package.glob(f"*/{layout.COMPONENT_MARKERS[0]}")))),
    }
    templates = {**_SERVICE, **_COMPONENT} if kind == "service" else _COMPONENT
    made = {root / _filled(path, given): _filled(text, given) for path, text in templates.items()}
    there = [str(path) for path in made if path.exists()]
    if there:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise OrchestratorError(f"cannot make {name}: {there[0]}{more} is there already")
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(path, text.encode(), 0o644)
        session.screen.note(f"orch: wrote {path}")
    line = "serves the public api." if kind == "service" else "is to be described here."
    text = marker.read_text(encoding="utf-8").rstrip("\n")
    gap = "\n\n" if not text.splitlines()[-1].startswith("- ") else "\n"
    files.write_atomic(marker, f"{text}{gap}- `{component}` {line}\n".encode(), 0o644)
    _declare(session, given)
    return ExitCode.DONE


def _declare(session: Session, given: Mapping[str, str]) -> None:
    """Add the component to the topology here; print what to add where that is not plain."""
    service, component = given["service"], given["component"]
    entry = {"package": f"{given['pkg']}.{given['mod']}"}
    named = session.options.file
    candidates = (named,) if named else paths.DEFAULT_NAMES
    topology = next((Path(one) for one in candidates if Path(one).is_file()), None)
    whole = f"{service}:\n  components:\n    {component}:\n      package: {entry['package']}\n"
    if topology is None:
        text = "version: 1\nservices:\n" + _indented(whole, 2)
        files.write_atomic(Path(candidates[0]), text.encode(), 0o644)
        session.screen.note(f"orch: wrote {candidates[0]}")
        return
    source = compose.read(topology.absolute(), str(topology))
    text = _with(source, topology, service, component, entry) or ""
    if text:
        files.write_atomic(topology, text.encode(), topology.stat().st_mode & 0o777)
        session.screen.note(f"orch: added {service}.{component} to {topology}")
        return
    session.screen.note(f"orch: add this to {topology}:")
    session.screen.data("services:\n" + _indented(whole, 2).rstrip("\n"))


def _with(
    source: Source, topology: Path, service: str, component: str, entry: Mapping[str, Any]
) -> str | None:
    """Return the text of a topology with a component more; None where that is not plain."""
    wanted = copy.deepcopy(source.value)
    services = wanted.get("services") if isinstance(wanted, dict) else None
    if not isinstance(services, dict) or not services:
        return None
    if service not in services:
        services[service] = {"components": {component: dict(entry)}}
        block = f"{service}:\n  components:\n    {component}:\n      package: {entry['package']}\n"
        below: Any = source.value["services"]
    else:
        components = services[service].get("components") if services[service] else None
        if not isinstance(components, dict) or not components or component in components:
            return None
        components[component] = dict(entry)
        block = f"{component}:\n  package: {entry['package']}\n"
        below = source.value["services"][service]["components"]
    first = source.position(source.container_span(below).start)
    starts = source.starts()
    before = source.text[starts[first.line - 1] :][: first.column - 1]
    if before.strip():
        return None  # {…} on one line: what is around it is somebody's style.
    at = starts[first.line - 1]
    text = source.text[:at] + _indented(block, len(before)) + source.text[at:]
    trial = topology.with_name(f".{topology.name}.new")
    try:
        trial.write_text(text, encoding="utf-8")
        again = compose.read(trial.absolute(), str(trial))
    finally:
        trial.unlink(missing_ok=True)
    return text if again.value == wanted and not again.diagnostics else None


def _module(name: str) -> str:
    return name.replace("-", "_")


def _filled(text: str, given: Mapping[str, str]) -> str:
    return string.Template(text).substitute(given)


def _indented(text: str, width: int) -> str:
    return "".join(f"{' ' * width}{line}" for line in text.splitlines(keepends=True))
