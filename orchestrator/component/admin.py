"""Administration commands over a pool of components.

A service keeps its own in `admin/commands.py`, as methods of an `Administrator` or as functions:

    class _Shop(Administrator):
        commands = [Command("grow", args=[CommandArg("--by", type=int, default=1)])]

        def cmd_grow(self, component, parsed_args, unknown_args):
            "Make the shop bigger."

    ADMINISTRATOR = _Shop("shop", [COMPONENT])

`orch admin shop.api grow --by 3` calls it in a process of its own, with the component configured.
Without orch, `ADMINISTRATOR(["shop", "api", "grow", "--by", "3"])` does. Commands that every
administrator has: start, build, initialize, collect_static and django.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from orchestrator.component import configuring, djangos, exits, loader, workflow
from orchestrator.component.errors import ComponentError
from orchestrator.component.settings import SettingsManager
from orchestrator.component.workflow import Component
from orchestrator.errors import ExitCode, OrchestratorError

BASE_DIR = "app_data"
"""Where an administrator without orch builds, from where it is called."""

_PREFIX = "cmd_"


class CommandArg:
    """An argument of a command.

    Args:
        names: Its name, or its options, as `argparse` takes them: `"amount"`, `"-b", "--by"`.
        options: Further arguments of `ArgumentParser.add_argument`: type, default, help, …
    """

    def __init__(self, *names: str, **options: Any) -> None:
        self.names = names
        self.options = options


class Command:
    """What is to be known of a command beside its function.

    Args:
        name: What it is called by; `cmd_<name>` does it.
        args: Its arguments.
        help: A sentence; the first line of the function's docstring when empty.
        concerned_components: The names of the components that have it; None: all.
    """

    def __init__(
        self,
        name: str,
        args: Iterable[CommandArg] = (),
        help: str = "",  # noqa: A002 - as argparse calls it
        concerned_components: Iterable[str] | None = None,
    ) -> None:
        self.name = name
        self.args = tuple(args)
        self.help = help
        self.concerned_components = (
            None if concerned_components is None else tuple(concerned_components)
        )

    def concerns(self, component: Component) -> bool:
        """Tell whether a component has the command."""
        if self.concerned_components is None:
            return True
        base = component.name.partition("@")[0]
        names = {base, f"{component.service_name}.{base}"}
        return not names.isdisjoint(self.concerned_components)


@dataclass(frozen=True, slots=True)
class _Bound:
    """A command with its function; `takes` is how many arguments that has at most."""

    command: Command
    function: Callable[..., object]
    takes: int

    def parser(self, prog: str) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(prog=prog, description=self.command.help)
        for argument in self.command.args:
            parser.add_argument(*argument.names, **argument.options)
        return parser


class Administrator(SettingsManager):
    """Commands over components, which may be of several services.

    Args:
        name: What errors call it; for a service its name.
        components: The components.
        settings_module_name: Where its settings are, when orch gives none.

    Raises:
        ComponentError: Two components have one name, or a command has no function.
    """

    commands: ClassVar[Sequence[Command]] = ()
    """What is to be known of the methods `cmd_*`; those without are commands too."""

    def __init__(
        self,
        name: str,
        components: Iterable[Component],
        settings_module_name: str = "settings",
    ) -> None:
        super().__init__(settings_module_name)
        self.name = name
        self.components: dict[tuple[str, str], Component] = {}
        for component in components:
            key = (component.service_name, component.name)
            if key in self.components:
                raise ComponentError(
                    f"cannot administer {name}: two components are called {component.full_name}"
                )
            self.components[key] = component
        self._bound = _bind(self, self.commands)

    def propagate_settings(self, component: Any = None, component_arg: Any = None) -> None:
        """Set fields of configurations by settings, before a command.

        By default that is what the hook in the service's `admin/settings.py` does, if any.

        Args:
            component: The component that the command is for.
            component_arg: What the caller said by `-c`.
        """
        if component is None:
            return
        _, hook = configuring.settings_of(_home(component))
        if hook is not None:
            hook(component, component_arg)

    def commands_of(self, component: Component) -> dict[str, Command]:
        """Return the commands that a component has, by name."""
        return {
            name: bound.command
            for name, bound in sorted(self._bound.items())
            if bound.command.concerns(component)
        }

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Do what `<service> <component> [-c ARG] <command> …` says; return 0.

        Args:
            argv: The words; those of the command line when None.

        Raises:
            SystemExit: With 2 when the words are wrong, with 1 when the command failed.
        """
        words = sys.argv[1:] if argv is None else list(argv)
        parser = argparse.ArgumentParser(prog=self.name, description=f"Administer {self.name}.")
        services = sorted({service for service, _ in self.components})
        parser.add_argument("service", choices=services)
        parser.add_argument("component")
        parser.add_argument("-b", "--base-dir", default=BASE_DIR, help="where to build")
        _add_command(parser)
        given = parser.parse_args(words)
        component = self.components.get((given.service, given.component))
        if component is None:
            there = sorted(name for service, name in self.components if service == given.service)
            parser.error(
                f"{given.service} has no component {given.component!r}; "
                f"there are {', '.join(there)}"
            )
        prog = f"{self.name} {given.service} {given.component}"

        def prepare() -> None:
            component.step(
                "settings", lambda: self.propagate_settings(component, given.component_arg)
            )
            component.standard_configure(given.base_dir, build=False)

        return self._finish(prog, component, given, prepare)

    def administer(self, component: Component, words: Sequence[str], prog: str) -> int:
        """Do what `[-c ARG] <command> …` says of a component that is configured; return 0.

        Raises:
            SystemExit: With 2 when the words are wrong, with 1 when the command failed.
        """
        parser = argparse.ArgumentParser(prog=prog)
        _add_command(parser)
        given = parser.parse_args(list(words))

        def prepare() -> None:
            # The build has propagated already what does not depend on the argument.
            if given.component_arg is not None:
                self.propagate_settings(component, given.component_arg)

        return self._finish(prog, component, given, prepare)

    def _finish(
        self,
        prog: str,
        component: Component,
        given: argparse.Namespace,
        prepare: Callable[[], None],
    ) -> int:
        there = self.commands_of(component)
        if given.command not in there:
            what = "no such command" if given.command not in self._bound else "not for it"
            near = difflib.get_close_matches(given.command, there, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(there)}"
            _usage(
                prog, f"{component.full_name} has no command {given.command!r} ({what}); {hint}"
            )
        bound = self._bound[given.command]
        parser = bound.parser(f"{prog} {given.command}")
        if bound.function == self.cmd_django:
            parsed, unknown = argparse.Namespace(), given.words
        else:
            parsed, unknown = parser.parse_known_args(given.words)
        if unknown and bound.takes < 3:
            parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        try:
            prepare()
            exits.manage()
            bound.function(*(component, parsed, unknown)[: bound.takes])
        except OrchestratorError as error:
            sys.stderr.write(f"{prog}: {error}\n")
            raise SystemExit(ExitCode.FAILED) from error
        except Exception as error:  # the command is user code
            said = loader.traceback_text(error)
            sys.stderr.write(f"{prog}: the command {given.command} failed:\n{said}\n")
            raise SystemExit(ExitCode.FAILED) from error
        finally:
            exits.end_children()
        return ExitCode.DONE

    # ------------------------------------------------------------- what every one has

    def cmd_start(self, component: Component, parsed: argparse.Namespace) -> None:
        """Build, set up and run the component in this process."""
        component.build()
        component.setup()
        if parsed.migrate or parsed.static:
            component.initialize_django_files(with_db=parsed.migrate, with_static=parsed.static)
        component.start()

    def cmd_build(self, component: Component) -> None:
        """Write the configuration files of the component."""
        sys.stdout.write(f"{component.build()}\n")

    def cmd_initialize(self, component: Component) -> None:
        """Make the files that the component needs once: Django's migrations and static files."""
        component.initialize_once()

    def cmd_collect_static(self, component: Component) -> None:
        """Collect Django's static files."""
        component.initialize_django_files(with_db=False)

    def cmd_django(self, component: Component, _: object, words: Sequence[str]) -> None:
        """Run one of Django's own commands, with the component's settings."""
        component.setup()
        djangos.command_line(words)


_START = Command(
    "start",
    args=[
        CommandArg("-m", "--migrate", action="store_true", help="migrate Django's databases"),
        CommandArg("-s", "--static", action="store_true", help="collect Django's static files"),
    ],
)


def _add_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--component-arg", help="what propagate_settings is told")
    parser.add_argument("command")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="the command's arguments")


def _usage(prog: str, message: str) -> None:
    sys.stderr.write(f"{prog}: error: {message}\n")
    raise SystemExit(ExitCode.USAGE)


def _bind(owner: object, told: Iterable[Command]) -> dict[str, _Bound]:
    """Return the commands of an object's methods, or of a module's functions, by name.

    Raises:
        ComponentError: A `Command` has no function.
    """
    known = {"start": _START, **{command.name: command for command in told}}
    made: dict[str, _Bound] = {}
    for attribute in dir(owner):
        if not attribute.startswith(_PREFIX):
            continue
        function = getattr(owner, attribute)
        name = attribute.removeprefix(_PREFIX)
        said = known.pop(name, Command(name))
        help_text = said.help or (inspect.getdoc(function) or "").partition("\n")[0]
        command = Command(name, said.args, help_text, said.concerned_components)
        made[name] = _Bound(command, function, _takes(function))
    known.pop("start", None)
    if known:
        raise ComponentError(
            f"the command {next(iter(known))!r} has no function {_PREFIX}{next(iter(known))}"
        )
    return made


def _takes(function: Callable[..., object]) -> int:
    """Return how many of component, arguments and unknown words a function takes."""
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return 3
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return min(3, sum(kind in named for kind in kinds))


def _home(component: Component) -> str:
    try:
        return workflow.home_of(component)
    except ComponentError:
        return ""


# ------------------------------------------------------------------ of a component's service


class _OfFunctions(Administrator):
    """The functions `cmd_*` of a module as commands."""

    def __init__(self, name: str, module: Any) -> None:
        super().__init__(name, ())
        self._bound.update(_bind(module, getattr(module, "COMMANDS", ())))


def of_package(package: str, service: str) -> Administrator:
    """Return the administrator of the service that a component's package belongs to.

    It is in `admin/commands.py` beside the package: an `Administrator`, a class of such, or
    functions `cmd_*` with `COMMANDS`. Without, there is what every administrator has.

    Raises:
        SetupError: The module cannot be loaded, or is wrong; names file and line.
    """
    name = package.partition(":")[0]
    module = _commands(name)
    if module is None:
        return Administrator(service, ())
    root = Path(str(module.__file__)).parents[2]
    with loader.failures(root, module.__name__, "administration"):
        values = vars(module).values()
        for value in values:
            if isinstance(value, Administrator):
                return value
        for value in values:
            is_own = isinstance(value, type) and value.__module__ == module.__name__
            if is_own and issubclass(value, Administrator):
                made: Administrator = value(service, ())
                return made
        return _OfFunctions(service, module)


def _commands(package: str) -> Any:
    """Return the module of a service's commands, None without one."""
    parent = package.rpartition(".")[0]
    for home in (parent, package):
        found = f"{home}.admin.commands" if home else "admin.commands"
        try:
            spec = importlib.util.find_spec(found)
        except (ImportError, ValueError):
            continue
        if spec is not None:
            root = Path(str(spec.origin)).parents[2]
            with loader.failures(root, found, "administration"):
                return importlib.import_module(found)
    return None


def described(administrator: Administrator, component: Component) -> list[dict[str, str]]:
    """Return name, help and usage of the commands that a component has."""
    found = []
    for name, command in administrator.commands_of(component).items():
        usage = _Bound(command, _nothing, 0).parser(name).format_usage()
        words = " ".join(usage.removeprefix("usage: ").replace("[-h]", "").split())
        found.append({"name": name, "help": command.help, "usage": words})
    return found


def _nothing() -> None:
    """Do nothing."""
