"""The one table of commands: what both parsers, the help and the completions are made from.

A row names a verb, its parameters and the function that does it, as `module:function` so
that nothing is imported before it is needed. This module imports nothing of the verbs and
nothing heavy: the quick path reads it on every call.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

UP_TIMEOUT = "10m"
WAIT_TIMEOUT = "60s"


class Kind(enum.Enum):
    """What the text of a parameter means; see `values.py` for the conversions."""

    TEXT = enum.auto()
    FLAG = enum.auto()
    CHOICE = enum.auto()
    DURATION = enum.auto()
    LINES = enum.auto()
    SIGNAL = enum.auto()
    LEVEL = enum.auto()
    PATTERN = enum.auto()
    PAIR = enum.auto()
    COUNT = enum.auto()
    NUMBER = enum.auto()
    INTEGER = enum.auto()


class Parameter(NamedTuple):
    """An option, or a positional argument when it has no flags.

    `default` is written as a user would write it. `multiple` collects every occurrence;
    `required` is for positional arguments.
    """

    name: str
    help: str
    flags: tuple[str, ...] = ()
    kind: Kind = Kind.TEXT
    default: str | None = None
    multiple: bool = False
    required: bool = False
    metavar: str = ""
    choices: tuple[str, ...] = ()


class Command(NamedTuple):
    """A verb.

    `quick` lets the small parser take it; `shared` says that the global options may stand
    after it too; `rest` collects unknown options and what follows them into that parameter.
    With `literal` no option of ours stands behind the first word.
    """

    name: str
    help: str
    handler: str
    parameters: tuple[Parameter, ...] = ()
    quick: bool = True
    shared: bool = True
    rest: str = ""
    literal: bool = False


def _flag(name: str, flags: str, text: str) -> Parameter:
    return Parameter(name, text, tuple(flags.split()), Kind.FLAG)


def _option(
    name: str,
    flags: str,
    text: str,
    metavar: str,
    kind: Kind = Kind.TEXT,
    *,
    default: str | None = None,
    multiple: bool = False,
) -> Parameter:
    return Parameter(name, text, tuple(flags.split()), kind, default, multiple, False, metavar)


def _choice(name: str, flags: str, text: str, choices: str, default: str) -> Parameter:
    words = tuple(choices.split())
    metavar = "|".join(words)
    return Parameter(
        name, text, tuple(flags.split()), Kind.CHOICE, default, metavar=metavar, choices=words
    )


SHARED: tuple[Parameter, ...] = (
    _option(
        "file",
        "-f --file",
        "The topology file; topology.yaml or topology.yml is searched upwards.",
        "FILE",
    ),
    _option("project", "-p --project", "A name that tells systems of one file apart.", "NAME"),
    _flag("json", "--json", "Print JSON: snapshots as one value, streams as lines."),
    _flag("quiet", "-q --quiet", "Print no progress; for ps: names only."),
    _flag("verbose", "-v --verbose", "Print more, also of what went wrong."),
    _choice("color", "--color", "When to colour.", "auto always never", "auto"),
)
"""Before or after the verb; each has a twin in the environment, `ORCH_FILE` for `--file`."""

_STATES = "queued building running succeeded failed cancelled"

_NAMES = Parameter(
    "names",
    "Services, components or instances (market, market.engine, market.engine@2).",
    multiple=True,
    metavar="NAME",
)
_ALL = _flag("everything", "--all", "All of them.")
_WAIT_TIMEOUT = _option(
    "wait_timeout",
    "--wait-timeout",
    "How long to wait.",
    "DURATION",
    Kind.DURATION,
    default=WAIT_TIMEOUT,
)
_NO_WAIT = _flag("no_wait", "--no-wait", "Return at once.")
_NO_IMPORT = _flag("no_import", "--no-import", "Skip the checks that import handler code.")
_SET = _option(
    "settings",
    "--set",
    "Give a setting a value, or by SERVICE.COMPONENT.KEY a configuration.",
    "NAME=VALUE",
    Kind.PAIR,
    multiple=True,
)
_SETTINGS = _option(
    "settings_files",
    "--settings",
    "A file with values of settings: YAML, JSON or Python.",
    "FILE",
    multiple=True,
)


def _change(name: str, text: str) -> Command:
    return Command(
        name, text, f"orchestrator.cli.change:{name}", (_NAMES, _ALL, _NO_WAIT, _WAIT_TIMEOUT)
    )


COMMANDS: tuple[Command, ...] = (
    Command(
        "up",
        "Start the system, or make a running one what its file says now.",
        "orchestrator.cli.early:up",
        (
            Parameter(
                "words",
                "A topology file (it ends in .yaml or .yml), then names; all when none.",
                multiple=True,
                metavar="FILE|NAME",
            ),
            _flag("detach", "-d --detach", "Return when nothing waits to be started any more."),
            _flag(
                "wait",
                "--wait",
                "Return when all is ready or has ended well; else, without -d, stop it again.",
            ),
            _option(
                "wait_timeout",
                "--wait-timeout",
                f"How long -d ({UP_TIMEOUT}) or --wait ({WAIT_TIMEOUT}) may take.",
                "DURATION",
                Kind.DURATION,
            ),
            _option(
                "exit_code_from",
                "--exit-code-from",
                "Stop all when this one ends, and exit with its code.",
                "NAME",
            ),
            _flag("abort_on_failure", "--abort-on-failure", "Stop all when one has failed."),
            _flag("abort_on_exit", "--abort-on-exit", "Stop all when one has ended, well or not."),
            _flag("plan", "--plan", "Print what would be done, and do nothing."),
            _flag("no_deps", "--no-deps", "Leave out what the names depend on."),
            _option(
                "scale",
                "--scale",
                "Run so many instances.",
                "NAME=COUNT",
                Kind.COUNT,
                multiple=True,
            ),
            _option(
                "profiles",
                "--profile",
                "Start what has this profile too; ORCH_PROFILES names some with commas.",
                "NAME",
                multiple=True,
            ),
            _flag("remove_orphans", "--remove-orphans", "Stop what the file no longer has."),
            _option(
                "mock",
                "--mock",
                "Run the Mock of a package component in its place.",
                "NAME",
                multiple=True,
            ),
            _flag("init", "--init", "First let package components make files that they need."),
            _SET,
            _SETTINGS,
            _NO_IMPORT,
        ),
    ),
    Command(
        "down",
        "Stop the system in order, and its daemon; done when none runs.",
        "orchestrator.cli.change:down",
        (
            _flag("kill", "--kill", "Kill at once instead of stopping in order."),
            _option(
                "wait_timeout",
                "--wait-timeout",
                "How long to wait.",
                "DURATION",
                Kind.DURATION,
                default=UP_TIMEOUT,
            ),
        ),
    ),
    Command(
        "ps",
        "List the instances.",
        "orchestrator.cli.observe:ps",
        (_NAMES, _flag("everything", "--all", "The daemon's own row too.")),
    ),
    Command(
        "status",
        "Tell all about instances; with names, exit 3 when one does not run, 4 when unknown.",
        "orchestrator.cli.observe:status",
        (_NAMES,),
    ),
    Command(
        "logs",
        "Print what instances wrote, or runs of jobs.",
        "orchestrator.cli.logs:logs",
        (
            Parameter("names", f"{_NAMES.help[:-1]}; or runs.", multiple=True, metavar="NAME"),
            _flag("follow", "-f --follow", "Go on with what comes, across restarts."),
            _option(
                "lines",
                "-n --lines",
                "How many last lines of each, or all (default: 100; all with --since, --until).",
                "N|all",
                Kind.LINES,
            ),
            _option("since", "--since", "From so long ago (10m), or from a time, on.", "TIME"),
            _option("until", "--until", "Until so long ago, or until a time.", "TIME"),
            _flag("timestamps", "-t --timestamps", "When each line was written, in UTC."),
            _flag("stderr", "--stderr", "Standard error only."),
            _flag("no_prefix", "--no-prefix", "The bytes as they were written."),
            _option(
                "grep",
                "--grep",
                "Lines that match only.",
                "REGEX",
                Kind.PATTERN,
            ),
        ),
    ),
    Command(
        "events",
        "Print what happens to instances and runs, as it happens; with --json after a snapshot.",
        "orchestrator.cli.events:events",
        (
            Parameter(
                "names", f"{_NAMES.help[:-1]}; or jobs or runs.", multiple=True, metavar="NAME"
            ),
        ),
    ),
    Command(
        "top",
        "Show who uses how much, and what goes through connections and states.",
        "orchestrator.cli.top:top",
        (
            _NAMES,
            _flag("once", "--once", "Look once; counters are then of the whole life."),
            _option(
                "interval",
                "-i --interval",
                "How long between two looks.",
                "DURATION",
                Kind.DURATION,
                default="1s",
            ),
        ),
    ),
    Command(
        "tap",
        "Print the messages of connections and states, as they come and go.",
        "orchestrator.cli.inside:tap",
        (
            Parameter(
                "words",
                "Connections or states, as market.engine.orders; of one instance "
                "market.engine@2.orders.",
                multiple=True,
                required=True,
                metavar="NAME.CONNECTION",
            ),
            _flag("rate", "--rate", "Print how many there are each second, not the messages."),
            _option("count", "-n --count", "End after so many.", "N", Kind.NUMBER),
        ),
    ),
    Command(
        "call",
        "Send a request to a component, and print its reply.",
        "orchestrator.cli.inside:call",
        (
            Parameter("name", "A component or an instance.", required=True, metavar="NAME"),
            Parameter("connection", "Which of its replyers.", required=True, metavar="CONNECTION"),
            Parameter("arguments", "The arguments, as JSON.", default="{}", metavar="JSON"),
            _option(
                "timeout",
                "--timeout",
                "How long the reply may take.",
                "DURATION",
                Kind.DURATION,
                default="5s",
            ),
        ),
    ),
    Command(
        "trace",
        "Follow a workflow over the connections that its messages went through.",
        "orchestrator.cli.inside:trace",
        (Parameter("workflow", "A workflow id.", required=True, metavar="WORKFLOW_ID"),),
    ),
    Command(
        "submit",
        "Run a job, or queue it when there is no room; prints the id of the run.",
        "orchestrator.cli.submit:submit",
        (
            Parameter("job", "The job, as lab.sim.", metavar="NAME"),
            _flag("listed", "--list", "List the jobs there are, and submit nothing."),
            _option(
                "attributes",
                "-p --param",
                "An attribute of the template, as input_file=in.dat.",
                "NAME=VALUE",
                Kind.PAIR,
                multiple=True,
            ),
            _option(
                "arguments",
                "--arg",
                "A word for the program.",
                "NAME=VALUE",
                Kind.PAIR,
                multiple=True,
            ),
            _option("template", "--file", "A YAML file with attributes.", "FILE"),
            _option("run_id", "--id", "What to call the run; one is made by default.", "ID"),
            _option(
                "priority",
                "--priority",
                "Runs of a higher one begin first.",
                "N",
                Kind.INTEGER,
            ),
            _option(
                "after",
                "--after",
                "A run (or a job: its newest) that has to succeed first; "
                "ID=failed and ID=completed ask for other ends.",
                "ID",
                multiple=True,
            ),
            _flag("last_good", "--last-good", "Use the code that could be imported last."),
            _flag("wait", "--wait", "Wait for the end; exit 0 when the run succeeded, else 1."),
            _option(
                "wait_timeout",
                "--wait-timeout",
                "How long to wait; for ever by default.",
                "DURATION",
                Kind.DURATION,
            ),
        ),
    ),
    Command(
        "runs",
        "List runs of jobs, the newest first, or show all about some: runs show ID.",
        "orchestrator.cli.runs:listing",
        (
            Parameter(
                "words",
                "Jobs or services, all by default; or 'show' and runs.",
                multiple=True,
                metavar="NAME|show ID",
            ),
            Parameter(
                "states",
                "Only runs that are so; may be given several times.",
                ("--state",),
                Kind.CHOICE,
                multiple=True,
                metavar="STATE",
                choices=tuple(_STATES.split()),
            ),
            _option(
                "count",
                "-n --count",
                "How many, or all (default: 50; all with --json).",
                "N|all",
                Kind.LINES,
            ),
            _flag("follow", "--follow", "Follow those that have not ended, until they have."),
        ),
    ),
    Command(
        "cancel",
        "End runs that have not ended, queued ones too.",
        "orchestrator.cli.runs:cancel",
        (
            Parameter(
                "words",
                "Runs; with --all jobs or services.",
                multiple=True,
                metavar="ID",
            ),
            _flag("everything", "--all", "All runs, or all of the named jobs."),
            _NO_WAIT,
            _WAIT_TIMEOUT,
        ),
    ),
    _change("start", "Start instances that do not run."),
    _change("stop", "Stop instances, dependents first."),
    _change("restart", "Stop and start instances."),
    _change("reload", "Let instances take on changed code, handlers without a restart."),
    Command(
        "kill",
        "Send a signal to instances.",
        "orchestrator.cli.change:kill",
        (
            _NAMES,
            _ALL,
            _option(
                "signal",
                "-s --signal",
                "Which one, as TERM, SIGTERM or 15.",
                "SIGNAL",
                Kind.SIGNAL,
                default="KILL",
            ),
        ),
    ),
    Command(
        "scale",
        "Run more or fewer instances; the lower numbers stay as they are.",
        "orchestrator.cli.up:scale",
        (
            Parameter(
                "counts",
                "A component and its number of instances, as market.engine=3.",
                kind=Kind.COUNT,
                multiple=True,
                required=True,
                metavar="NAME=COUNT",
            ),
            _option(
                "wait_timeout",
                "--wait-timeout",
                "How long to wait until they are ready.",
                "DURATION",
                Kind.DURATION,
                default=WAIT_TIMEOUT,
            ),
            _SET,
            _SETTINGS,
            _NO_IMPORT,
        ),
    ),
    _change("reset", "Forget the failures of instances that gave up; start tries again."),
    Command(
        "wait",
        "Wait for instances, or for the end of runs.",
        "orchestrator.cli.change:wait",
        (
            Parameter(
                "names",
                f"{_NAMES.help[:-1]}; or runs.",
                multiple=True,
                required=True,
                metavar="NAME",
            ),
            _choice(
                "goal",
                "--for",
                "What to wait for (a run always for its end); with exit, the exit code is theirs.",
                "ready exit",
                "ready",
            ),
            _option(
                "timeout",
                "--timeout",
                "How long to wait.",
                "DURATION",
                Kind.DURATION,
                default=WAIT_TIMEOUT,
            ),
        ),
    ),
    Command(
        "init",
        "Make a service or a component to begin with, or the keys that a system needs.",
        "orchestrator.cli.init:init",
        (
            Parameter(
                "words",
                "What to make: `service NAME` or `component SERVICE.NAME`.",
                multiple=True,
                metavar="KIND NAME",
            ),
            _flag("keys", "--keys", "Make a key pair for encrypted addresses, in ./keys."),
            _option("name", "--name", "What to call it; the directory's name by default.", "NAME"),
        ),
    ),
    Command(
        "validate",
        "Check topology files; every mistake is reported.",
        "orchestrator.cli.topology:validate",
        (
            Parameter("files", "Topology files.", multiple=True, metavar="FILE"),
            _choice("format", "--format", "How to print mistakes.", "text json", "text"),
            _flag("layout", "--layout", "Also check how the packages of components are laid out."),
            _flag("strict", "--strict", "Warnings are mistakes too."),
            _SET,
            _SETTINGS,
            _NO_IMPORT,
        ),
    ),
    Command(
        "build",
        "Write the configuration files of every instance.",
        "orchestrator.cli.topology:build",
        (
            _option("output", "-o --output", "Where to; beside the topology by default.", "DIR"),
            _flag("check", "--check", "Write nothing; exit 1 when files are stale."),
            _flag("diff", "--diff", "Print how files differ."),
            _SET,
            _SETTINGS,
            _NO_IMPORT,
        ),
    ),
    Command(
        "config",
        "Show what components are configured with, and what gave each value.",
        "orchestrator.cli.config:config",
        (
            Parameter(
                "words",
                "Services or components; or set NAME KEY=VALUE…, unset NAME KEY…, refresh NAME….",
                multiple=True,
                metavar="NAME",
            ),
            _SET,
            _SETTINGS,
            _NO_IMPORT,
            _flag("no_refresh", "--no-refresh", "Do not reset the running service after set."),
        ),
    ),
    Command(
        "graph",
        "Print who sends to whom, and who waits for whom.",
        "orchestrator.cli.graph:graph",
        (
            _choice("format", "--format", "How to print it.", "text dot mermaid json", "text"),
            _SET,
            _SETTINGS,
            _NO_IMPORT,
        ),
    ),
    Command(
        "explain",
        "Tell why a component is not running, or what a code or a type means.",
        "orchestrator.cli.explain:explain",
        (
            Parameter(
                "word",
                "A name, a code as ORC101, or a type of connection or state as replyer.",
                required=True,
                metavar="NAME|CODE|TYPE",
            ),
        ),
    ),
    Command(
        "schema",
        "Print the JSON Schema of topology files, of locks, or of what --json prints.",
        "orchestrator.cli.topology:schema",
        (
            Parameter(
                "which",
                "topology, lock or output.",
                kind=Kind.CHOICE,
                default="topology",
                metavar="topology|lock|output",
                choices=("topology", "lock", "output"),
            ),
        ),
    ),
    Command(
        "run",
        "Run one handler file, or one built instance, in the foreground without a daemon.",
        "orchestrator.cli.run:run",
        (
            Parameter(
                "path",
                "A handler file, or the directory of a built instance.",
                metavar="FILE|DIR",
            ),
            Parameter(
                "extra",
                "Configuration of a handler file, as --name value.",
                multiple=True,
                metavar="[--NAME VALUE]",
            ),
            _option("addresses", "-a --addresses", "Its addresses file.", "FILE"),
            _option("config", "-c --config", "Its configuration file.", "FILE"),
            _flag("main_mode", "-m --main-mode", "Call main() instead of serving."),
            _option(
                "log_level",
                "-cl --console-loglevel",
                "From which level on to log.",
                "LEVEL",
                Kind.LEVEL,
                default="INFO",
            ),
            _option("service", "-s --service", "The handler file, instead of FILE.", "FILE"),
        ),
        quick=False,
        shared=False,
        rest="extra",
    ),
    Command(
        "exec",
        "Run a command with the environment, directory, user and limits of a component.",
        "orchestrator.cli.execute:execute",
        (
            Parameter("name", "A component, or one of its instances.", required=True),
            Parameter(
                "words",
                "The command and its arguments; `--` may stand before it.",
                multiple=True,
                metavar="COMMAND",
            ),
        ),
        quick=False,
        shared=False,
        rest="words",
    ),
    Command(
        "admin",
        "Run an administration command of a package component, or list them.",
        "orchestrator.cli.admin:admin",
        (
            Parameter("name", "A component, or one of its instances.", metavar="NAME"),
            Parameter(
                "words",
                "The command and its arguments; `-c ARG` may stand before it.",
                multiple=True,
                metavar="COMMAND",
            ),
            _SET,
        ),
        quick=False,
        rest="words",
        literal=True,
    ),
    Command(
        "doctor",
        "Tell what this machine grants, and which component asks for more.",
        "orchestrator.cli.doctor:doctor",
        (_SET, _SETTINGS),
    ),
    Command(
        "upgrade",
        "Have the daemon become the code that is installed now; nothing is restarted.",
        "orchestrator.cli.upgrade:upgrade",
    ),
    Command(
        "completion",
        "Print a script that completes orch commands in a shell.",
        "orchestrator.cli.about:completion",
        (
            Parameter(
                "shell",
                "bash, zsh or fish.",
                kind=Kind.CHOICE,
                required=True,
                metavar="bash|zsh|fish",
                choices=("bash", "zsh", "fish"),
            ),
        ),
    ),
    Command(
        "version",
        "Print the version.",
        "orchestrator.cli.about:version",
    ),
)


def find(name: str) -> Command | None:
    """Return the command called `name`."""
    return next((command for command in COMMANDS if command.name == name), None)


def options(command: Command) -> tuple[Parameter, ...]:
    """Return the options that may stand after the verb: its own, and the global ones it leaves.

    `logs -f` follows: a command's own flag hides the global one of that letter there.
    """
    own = tuple(parameter for parameter in command.parameters if parameter.flags)
    if not command.shared:
        return own
    taken = {flag for parameter in own for flag in parameter.flags}
    rest = (_without(parameter, taken) for parameter in SHARED)
    return (*own, *(parameter for parameter in rest if parameter.flags))


def arguments(command: Command) -> tuple[Parameter, ...]:
    """Return the positional arguments of a command."""
    return tuple(parameter for parameter in command.parameters if not parameter.flags)


def _without(parameter: Parameter, taken: set[str]) -> Parameter:
    if taken.isdisjoint(parameter.flags):
        return parameter
    flags = tuple(flag for flag in parameter.flags if flag not in taken)
    return Parameter(
        parameter.name,
        parameter.help,
        flags,
        parameter.kind,
        parameter.default,
        parameter.multiple,
        parameter.required,
        parameter.metavar,
        parameter.choices,
    )
