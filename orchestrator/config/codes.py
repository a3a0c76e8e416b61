"""Every diagnostic code: a title, and the explanation that `orch explain` prints.

Codes are stable: users name them in scripts and searches. A code is never given a new meaning.
"""

from __future__ import annotations

from msgspec import Struct


class Code(Struct, frozen=True):
    """What a code stands for."""

    title: str
    text: str


CODES: dict[str, Code] = {
    # Files and YAML
    "ORC001": Code(
        "file cannot be read",
        "A topology or an included file is missing or not readable. Included names count "
        "from the file that includes them.",
    ),
    "ORC002": Code(
        "not UTF-8",
        "Topology files are UTF-8, with or without a byte order mark. The position is that "
        "of the first byte that is not. Convert the file with iconv.",
    ),
    "ORC003": Code(
        "YAML syntax",
        "The text is no YAML 1.2. After a mistake the reader leaves out the lines at fault "
        "and goes on, to show the next one in the same run. Text with `: ` or ` #` in it, "
        "or which begins with a special character, needs quotes; so does text with ${…} "
        "inside [ ] or { }.",
    ),
    "ORC004": Code(
        "duplicate key",
        "A map has the same key twice. Many readers keep the last silently; here neither is"
        " a safe guess. Keys that come from a merge (`<<`) may be given again.",
    ),
    "ORC005": Code(
        "alias or nesting",
        "An alias names an anchor that does not stand before it or that contains itself, "
        "`<<` merges something that is no map, aliases expand to more than a million "
        "values, or the nesting is deeper than 100 levels.",
    ),
    "ORC006": Code(
        "reads differently elsewhere",
        "A plain word means one thing in YAML 1.2 and another in older readers. `on`, "
        "`off`, `yes` and `no` are text here, not booleans. A number with a leading zero, "
        "as 0644, is text here: it is octal to some readers and decimal to others. `22:22` "
        "is text. Quotes make the intent plain.",
    ),
    "ORC007": Code(
        "value that JSON lacks",
        "Keys are text; tags other than the core ones mean nothing; `.inf` and `.nan` are "
        "no numbers of JSON.",
    ),
    "ORC008": Code(
        "not one document",
        "A file holds exactly one YAML document, which is a map. Split several into files "
        "and `include` them.",
    ),
    "ORC010": Code(
        "circular include",
        "A file includes itself, directly or through others. The message shows the way round.",
    ),
    "ORC011": Code(
        "declared in two files",
        "Two files declare the same service, address, group or setting. Declarations are "
        "never merged across files; the second place is shown too.",
    ),
    "ORC012": Code(
        "no effect in an included file",
        "`name`, `base_dir`, `curve`, `start_concurrency`, `restart_rate`, "
        "`job_concurrency` and `job_mirror` are the root file's alone. In an included file they "
        "are allowed, so that it can be run by itself, and ignored.",
    ),
    # Interpolation and settings
    "ORC020": Code(
        "reference not readable",
        "A `${` is not closed or does not hold a name. Write ${NAME}, ${NAME:-default} or "
        "${NAME:?message}; $$ is a dollar sign.",
    ),
    "ORC021": Code(
        "variable not set",
        "A plain ${NAME} is a variable of the environment that orch is called in. It is not"
        " set, and there is no default.",
    ),
    "ORC022": Code(
        "setting unknown or without value",
        "${settings.NAME} names a setting that no file declares, or one that has neither a "
        "default nor a value.",
    ),
    "ORC023": Code(
        "address reference",
        "${addresses.NAME} names an address, or a part of one, that does not exist, or asks"
        " for the host or port of an endpoint that has none.",
    ),
    "ORC024": Code(
        "required reference",
        "${NAME:?message} found no value; the message is the author's.",
    ),
    "ORC025": Code(
        "required setting missing",
        "A setting is `required` and was given no value. Give it in a file of settings, by "
        "the environment variable ORCH_SETTING_<NAME>, or by --set NAME=VALUE; the last wins.",
    ),
    "ORC026": Code(
        "setting of the wrong type",
        "A setting takes values of its default's type, and the given text is none.",
    ),
    "ORC027": Code(
        "secret would be visible",
        "A secret setting is named in a command line, a path or a probe, which every user "
        "of the machine can read. Secrets belong in `environment` or `config`: there they "
        "stay references in every file, and are replaced when the process starts.",
    ),
    "ORC028": Code(
        "reference cannot stand here",
        "The namespaces are settings, addresses, env and self (name, instance, run_dir). "
        "Addresses, self and secrets are known only when a component is resolved: they can "
        "stand in command, config, environment, ready, live, startup, stop and working_dir.",
    ),
    # Shape
    "ORC100": Code(
        "unknown key",
        "The key means nothing at this place. Keys of your own begin with x-.",
    ),
    "ORC101": Code(
        "wrong type",
        "The value is of another type than the key takes. `yes` and `on` are text in YAML "
        "1.2; a number in quotes is text.",
    ),
    "ORC102": Code(
        "value not allowed",
        "The key takes a few values, and this is none of them.",
    ),
    "ORC103": Code(
        "something is missing",
        "A key that is needed here is not given, as the `handler` or `command` of a component.",
    ),
    "ORC104": Code(
        "keys exclude each other",
        "Several keys were given of which one can be: `handler` and `command`, two kinds of"
        " `ready`, `components` beside the fields of a component.",
    ),
    "ORC105": Code(
        "half-configured",
        "The key has a meaning only beside another: `mode`, `connections` and `states` with"
        " `handler`, `shell` and `settle` with `command`, `status` with `http`.",
    ),
    "ORC106": Code(
        "no duration or size",
        "Durations have units: 500ms, 1.5s, 2m, 1h30m. A bare number has meant seconds to "
        "some and milliseconds to others. Sizes are 4096, 50MB (decimal) or 512MiB "
        "(binary).",
    ),
    "ORC107": Code(
        "invalid name",
        "Systems, services and components have names of lower-case letters, digits and "
        "inner hyphens, at most 48 characters. Addresses, settings and variables are words "
        "of letters, digits and _.",
    ),
    "ORC108": Code(
        "out of range",
        "The number, or the length, is beyond what is allowed.",
    ),
    "ORC109": Code(
        "no effect",
        "The option changes nothing here, as `backoff` with `restart: never`. Remove it, or"
        " the option that makes it idle.",
    ),
    "ORC110": Code(
        "secret in the file",
        "A secret setting has its value in the topology file, where whoever reads the file "
        "reads it.",
    ),
    # References and wiring
    "ORC200": Code(
        "unknown dependency",
        "`depends_on` names a component of the same service, SERVICE.COMPONENT, or a "
        "service for all of its components.",
    ),
    "ORC201": Code(
        "circular dependency",
        "Components wait for each other in a circle, so that none could start. The message "
        "shows the way round, with the place of each step. Wiring alone needs no order: "
        "peers connect in any.",
    ),
    "ORC202": Code(
        "dependency that may never be met",
        "The component waits for one that is not enabled, or for the end of one that is "
        "always restarted.",
    ),
    "ORC210": Code(
        "unknown address",
        "Ends of components are wired by names declared under `addresses`, or NAME.PART of "
        "an address with parts.",
    ),
    "ORC211": Code(
        "bad address",
        "An endpoint is tcp://HOST:PORT, HOST:PORT, ipc:///PATH, auto or auto:tcp. inproc "
        "joins threads of one process and cannot join components.",
    ),
    "ORC212": Code(
        "colliding addresses",
        "Two addresses have the same port on overlapping hosts, or the same path. A "
        "wildcard host overlaps with every host.",
    ),
    "ORC213": Code(
        "socket path too long",
        "The kernel has room for 107 bytes in the path of a unix socket.",
    ),
    "ORC214": Code(
        "nobody at the other end",
        "An address is used from one side only. Wire a component to its other side, or mark"
        " it `external: true` when that lives elsewhere. An address that a text mentions as"
        " ${addresses.NAME} counts as used by any program.",
    ),
    "ORC215": Code(
        "two binders",
        "An endpoint is bound by one component, and others connect. Repliers and publishers"
        " bind, requesters and subscribers connect.",
    ),
    "ORC216": Code(
        "ends do not fit",
        "A requester speaks with a replyer, a subscriber with a publisher.",
    ),
    "ORC217": Code(
        "wired and not declared",
        "The topology wires an end that the handler's models do not have.",
    ),
    "ORC218": Code(
        "declared and not wired",
        "The handler's models have an end that the topology wires to no address.",
    ),
    "ORC219": Code(
        "parts do not fit",
        "An end with one socket needs one endpoint; an end with several, as a delta update "
        "state, needs an address with the parts data and snapshot, or one address for each "
        "socket.",
    ),
    "ORC220": Code(
        "unused address",
        "Nothing is wired to the address, and no text mentions it.",
    ),
    "ORC221": Code(
        "main mode",
        "In main mode a handler runs its function `main` and takes nothing in: no inward "
        "connections, no inward states.",
    ),
    "ORC222": Code(
        "handler cannot be loaded",
        "Importing the handler to read its models failed. The position is in the handler "
        "where the failure has one. --no-import checks the rest.",
    ),
    "ORC223": Code(
        "several instances on one endpoint",
        "Each instance of what binds needs an endpoint of its own, and a fixed address is "
        "only one. `auto` gives one to each.",
    ),
    "ORC224": Code(
        "clear text beyond this machine",
        "The address can be reached from other machines and carries clear text. Encrypt it with "
        "`curve: true` and keys made by `orch init --keys`, or say `insecure: true` when clear "
        "text is intended.",
    ),
    "ORC225": Code(
        "address out of reach",
        "The socket of an `auto` address lies in the system's runtime directory, which is its "
        "user's alone. A component that runs as another user needs `auto:tcp`, a loopback port, "
        "or an ipc path that both may use.",
    ),
    "ORC310": Code(
        "models disagree",
        "The two ends of an edge declare messages that do not fit: the receiver requires what"
        " the sender does not always send, does not know what is sent, or expects another"
        " type. The path leads to the place: `args.levels{}` is what the values of the dict"
        " `levels` are, `args.pair[0]` an item, `return_args` the reply.",
    ),
    "ORC311": Code(
        "topics differ",
        "Topics match whole, so that a subscriber receives only what is published with its own"
        " topic; one without a topic receives only what has none.",
    ),
    "ORC312": Code(
        "kinds differ",
        "A state speaks with a state of its own kind: full_update_out with full_update_in,"
        " delta_update_out with delta_update_in. A connection speaks with a connection.",
    ),
    "ORC313": Code(
        "the name of a bus is taken",
        "The bus of an address is the component `bus.NAME`. Give the address or the component"
        " another name.",
    ),
    "ORC314": Code(
        "no key",
        "An address with `curve` is encrypted with a key pair, whose file is named at the"
        " address or in `curve` for the whole system. `orch init --keys` makes one.",
    ),
    "ORC315": Code(
        "key file cannot be used",
        "A key file is missing, holds no key, or is a secret one that others may read. Paths"
        " count from the file that names them. Secret files need mode 0600.",
    ),
    "ORC300": Code(
        "nothing to persist",
        "`persist` keeps a state over restarts of its source, so that it belongs to an end "
        "under `states: out`. Copies get theirs from the source.",
    ),
    # Components
    "ORC230": Code(
        "file or directory missing",
        "A handler, an env file or a working directory is not there. Relative paths count "
        "from the file that declares them.",
    ),
    "ORC231": Code(
        "reserved variable",
        "orch itself sets NOTIFY_SOCKET, ORCH_INSTANCE and ORCH_LOG_LEVEL for every component.",
    ),
    "ORC232": Code(
        "bad line in an env file",
        "Lines are NAME=value, with `export` allowed before. Single quotes keep everything "
        'as it is; double quotes know \\n, \\t, \\" and \\\\.',
    ),
    "ORC233": Code(
        "program not found",
        "The program is not there now. It may appear before the component starts, so that "
        "this is a warning.",
    ),
    "ORC234": Code(
        "bad command",
        "A command is a list of words, or a text that is split as a shell splits words. "
        "`shell: true` takes a text.",
    ),
    "ORC235": Code(
        "a shell's word without a shell",
        "The command is run without a shell, so that pipes, redirections and $NAME reach "
        "the program as they are. `shell: true` runs it by /bin/sh -c.",
    ),
    "ORC236": Code(
        "unknown signal",
        "Signals are named as TERM or SIGTERM.",
    ),
    "ORC237": Code(
        "bad regular expression",
        "`ready.log` is a regular expression in Python's syntax.",
    ),
    "ORC238": Code(
        "old spelling",
        "The spelling is still understood and will not always be.",
    ),
    "ORC239": Code(
        "no HOST:PORT",
        "A host and a port between 1 and 65535, joined by a colon; IPv6 hosts in brackets.",
    ),
    "ORC240": Code(
        "no umask",
        "A umask has three octal digits, as 022. Its digits are octal however they are "
        'written: 022, "022" and 0o22 are the same.',
    ),
    "ORC241": Code(
        "no output to look into",
        "`ready.log` looks into the files that output is captured in. Remove `capture: false`, "
        "or choose another kind of readiness.",
    ),
    # Sockets
    "ORC250": Code(
        "bad socket address",
        "A socket listens on tcp://HOST:PORT, where the host is an IP address of this machine, "
        "localhost or *, or on unix:///PATH.",
    ),
    "ORC251": Code(
        "open to other machines",
        "A socket beyond the loopback interface is reachable for others. Use a loopback address, "
        "or write `insecure: true` when that is intended.",
    ),
    "ORC252": Code(
        "colliding sockets",
        "A socket has the port or path of another socket, or of an address that a component "
        "binds itself.",
    ),
    "ORC253": Code(
        "descriptor taken",
        "The sockets of a component are its descriptors from 3 on, so that the descriptor of "
        "its readiness has to be another.",
    ),
    # Restarts
    "ORC260": Code(
        "unknown member of a group",
        "A group names SERVICE.COMPONENT, or a service for all of its components.",
    ),
    "ORC261": Code(
        "member of two groups",
        "A component belongs to one group at most, and is named once in it: else it would "
        "be said twice with whom it is restarted.",
    ),
    "ORC262": Code(
        "a group's order against dependencies",
        "Members are started again in the group's order, each when the one before it is "
        "ready. A member that depends on a later one could never be started again.",
    ),
    "ORC264": Code(
        "nothing to schedule",
        "A schedule starts what ends by itself: a command, or a handler with `mode: main`. "
        "What is always restarted never waits for its next time.",
    ),
    "ORC265": Code(
        "no cron expression",
        "Five fields: minute, hour, day of the month, month, day of the week; each a value, "
        "`*`, a range `8-18`, a list `1,15`, or one of these with a step, `*/5`. Months and "
        "days of the week may be given by their first three letters.",
    ),
    "ORC263": Code(
        "a signal with a meaning of its own",
        "KILL, STOP and CONT do what the kernel says, to every process. `signals` can give "
        "others a meaning.",
    ),
    # Packages
    "ORC450": Code(
        "package cannot be loaded",
        "A component's package is not there, has no module `__component__` (nor `component`), or "
        "its import failed. The position is in its code where the failure has one. --no-import "
        "checks the rest.",
    ),
    "ORC451": Code(
        "no COMPONENT",
        "The module `__component__` of a component's package holds what runs as `COMPONENT`.",
    ),
    "ORC452": Code(
        "no component",
        "COMPONENT must be a `Component` with a method `run`, a class of such, any object or "
        "class with a method `run`, or a function.",
    ),
    "ORC453": Code(
        "two components of one name",
        "Two packages of a service hold components that call themselves the same. The topology's "
        "names win, but files and administration commands would not tell them apart.",
    ),
    "ORC454": Code(
        "no Mock",
        "`orch up --mock NAME` runs what the component's package exposes as `Mock` in its place: "
        "a class, an object or a function, as COMPONENT may be one.",
    ),
    "ORC455": Code(
        "administration cannot be loaded",
        "The commands of a service are in `admin/commands.py`: an `Administrator`, a class of "
        "such, or functions `cmd_*`. Its import failed, or a `Command` has no function.",
    ),
    "ORC460": Code(
        "no service package",
        "A service is a package with `__service__.md` (or `service.md`), around the packages of "
        "its components.",
    ),
    "ORC461": Code(
        "component not mentioned",
        "`__service__.md` says where the components of a service are, the public one above all; "
        "it must mention each that the topology declares.",
    ),
    "ORC462": Code(
        "exposed by a component",
        "A component's package exposes CONF, CONFIGURATION, Client and Mock, and nothing else. "
        "What `__all__` names is exposed; without it, every public name that `__init__` binds.",
    ),
    "ORC463": Code(
        "file in admin",
        "The `admin` package of a service holds `conf.py`, `settings.py` and `commands.py`.",
    ),
    "ORC464": Code(
        "configuration elsewhere",
        "The files of a service's configuration are in its package `admin`. A component, and any "
        "other package, may have a `conf.py` of its own.",
    ),
    "ORC465": Code(
        "not exposed",
        "What a package exposes is in its `__init__`. Other packages import from there, not from "
        "the modules within.",
    ),
    "ORC466": Code(
        "import with effects",
        "Packages are neutral: importing them needs no set-up, and does nothing: no file is "
        "written, no socket opened, no process or thread started, no logging set up.",
    ),
    "ORC467": Code(
        "component package",
        "A component is a package with `__component__.py` (or `component.py`) within the package "
        "of its service, and the topology declares it.",
    ),
    # Reloads
    "ORC330": Code(
        "command cannot be exchanged in place",
        "`reload: hot` exchanges the code of a handler within its process. A program of "
        "another make can be restarted (`reload: restart`), or told by a signal to read its "
        "files anew (`reload: signal`, with `reload_signal` when it is not HUP).",
    ),
    "ORC331": Code(
        "main is not exchanged in place",
        "With `mode: main` one function runs from start to end; new code cannot take its "
        "place while it does. `orch reload` restarts such a component, once the new code "
        "compiles.",
    ),
    # Jobs
    "ORC400": Code(
        "unknown job after `after`",
        "A job waits for a job that no file declares. Names are those of jobs of the same "
        "service, or SERVICE.JOB. A component is no job: `depends_on` is for those.",
    ),
    "ORC401": Code(
        "file of a job is missing",
        "`program`, `service` and `handler` name files, counted from the file that declares "
        "the job. A class in an installed module is written MODULE:CLASS.",
    ),
    "ORC402": Code(
        "jobs wait in a circle",
        "Jobs that wait for each other would never run. The message shows the way round.",
    ),
    "ORC403": Code(
        "hook not readable",
        "`service` and `handler` are FILE.py, whose only class of the kind is taken, "
        "FILE.py:CLASS, or MODULE:CLASS.",
    ),
    "ORC404": Code(
        "attribute of a template",
        "An attribute has a value of a type that it cannot have, or is given under two names: "
        "`input_file` and `g_input_file` are one. Arguments are text, numbers or booleans.",
    ),
    "ORC405": Code(
        "component and job of one name",
        "A component and a job of one service share a name, and commands could not tell which "
        "is meant.",
    ),
    "ORC406": Code(
        "scheduled job lacks an attribute",
        "A job with a schedule is submitted with its template as it is, so that must have "
        "all that is `required`.",
    ),
    "ORC420": Code(
        "no mirror of runs",
        "`job_mirror` is the URL of a Redis server: redis://, rediss:// or unix://. What follows "
        "a # begins the names of its keys. It may name settings, secret ones too, and no more.",
    ),
    # Files of values, configurations
    "ORC430": Code(
        "file of values cannot be used",
        "Settings and configurations may come from files: YAML or JSON with a map, or a Python "
        "module, by the endings .yaml, .yml, .json and .py. Names count from the file that "
        "names them; those of --settings from where the command is given.",
    ),
    "ORC431": Code(
        "module of values raises",
        "A Python file of settings or of configuration is imported in a process of its own, and "
        "its public names are the values. It raised, does not end, or gives what no file can "
        "keep; the position is the line of the module where that is known.",
    ),
    "ORC432": Code(
        "value for no setting",
        "A file of settings gives a value to a name that the topology does not declare. "
        "Settings are declared under `settings`, or by the SettingsManager of a package.",
    ),
    "ORC433": Code(
        "setting of another type",
        "A file of settings gives a value that is not of the setting's type: its `type`, or "
        "else that of its default. A default of 8080 makes a setting a whole number.",
    ),
    # Service classes
    "ORC470": Code(
        "no configuration store",
        "`config_store` says where the configuration of services is kept: `sqlite`, a file of the "
        "system, or the URL of a Redis server: redis://, rediss:// or unix://. What follows a # "
        "begins the names of its keys.",
    ),
    "ORC471": Code(
        "manifest cannot be read",
        "A file that `manifests` names is missing, not readable or not UTF-8. Names count from "
        "the topology file.",
    ),
    "ORC472": Code(
        "no manifest",
        "A manifest file holds YAML documents, divided by `---`, each of them a map with a text "
        "under `kind`. By that they are grouped in the `kube` of the service.",
    ),
    "ORC474": Code(
        "switch of a service",
        "`enabled` and `quiet` in the configuration of a service class are true or false. In YAML "
        "1.2 `yes`, `no`, `on` and `off` are texts.",
    ),
    "ORC473": Code(
        "context or default service cannot be loaded",
        "`contexts` and `default_services` name classes as `module:Class`; the module is looked "
        "for beside the topology file. That of a default service is a CommonService with a `run`.",
    ),
    "ORC434": Code(
        "unknown configuration",
        "A handler with a `config_model`, or a package with configuration objects, declares "
        "which keys there are; others are mistakes. What a service or the system configures "
        "must be known to one of the components that it is for.",
    ),
    "ORC435": Code(
        "configuration of another type",
        "A value is not what the handler's `config_model`, or the field of a configuration "
        "object, says: its `type`, or else that of its default. The position is where the "
        "last layer gave it; `orch config NAME` shows every value and its layer.",
    ),
    "ORC436": Code(
        "required configuration missing",
        "A handler's `config_model` requires a value, and no layer gives it: `config` of the "
        "component, of its service or of the system, a `config_file`, ORCH_CONFIG__KEY, or "
        "--set SERVICE.COMPONENT.KEY=VALUE.",
    ),
    "ORC438": Code(
        "base directory cannot be used",
        "What is built, logs and the journal go into `base_dir`. Something stands there that is "
        "no directory, or it cannot be read.",
    ),
    "ORC439": Code(
        "nothing runs concurrently",
        "`concurrency` lets several calls of a handler's `async def` functions be under way at "
        "once. Plain functions run one at a time whatever it says, and none of the functions of "
        "this handler's connections is `async`. A function that waits for a reply, a file or a "
        "clock is worth making one, with `await` before what it waits for.",
    ),
    "ORC437": Code(
        "configuration objects cannot be used",
        "A package's configuration objects are declared wrongly, a setting that its "
        "SettingsManager requires is missing, its `propagate_settings` raised, or `conf` of "
        "`packages` names nothing of the kind.",
    ),
}


def explain(code: str) -> str | None:
    """Return the title and the explanation of a code; None when there is no such code."""
    found = CODES.get(code.upper())
    return f"{code.upper()}: {found.title}\n\n{found.text}\n" if found else None
