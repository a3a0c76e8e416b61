"""From a draft to a Lock: wiring by the models, one component per instance, nothing left open."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field, structs

from orchestrator.config import (
    addresses,
    agreement,
    bus,
    checks,
    configurations,
    interpolate,
    source,
    surroundings,
    wiring,
)
from orchestrator.config.components import Lowered
from orchestrator.config.configurations import Configured
from orchestrator.config.document import Declared, Setting
from orchestrator.config.draft import Draft
from orchestrator.config.interpolate import Reference, Template
from orchestrator.config.jobs import LoweredJob
from orchestrator.config.report import Report
from orchestrator.config.wiring import Model, Wired
from orchestrator.errors import Diagnostic, Position
from orchestrator.model import names
from orchestrator.model.topology import (
    BARE,
    UNWIRED,
    Component,
    Dependency,
    Endpoint,
    Job,
    Lock,
    Probe,
    Ready,
    Stop,
    Surroundings,
    Wiring,
)
from orchestrator.wire import exactjson


class Locked(Struct, frozen=True):
    """A lock, the secrets that it names and does not hold, and what to warn of.

    `declared` is what the files say of each component, by its name without an instance.
    """

    lock: Lock
    secrets: Mapping[str, str]
    warnings: tuple[Diagnostic, ...]
    declared: Mapping[str, Declared]
    configured: Mapping[str, Configured]
    settings: Mapping[str, Setting]

    def origin(self, name: str, path: Sequence[str]) -> Position | None:
        """Return where in the files a value of an instance is from; None when it is in none."""
        component = self.lock.components.get(name)
        base = component.base if component is not None else name
        if base not in self.declared:
            return None
        place = self.declared[base].origin(path)
        return place.source.position(place.span().start)


def lock(draft: Draft, models: Mapping[str, Model] | None) -> Locked:
    """Return the Lock of a draft.

    Args:
        draft: What `read` returned.
        models: The answers of the handlers' inspection by component name; None judges the
            wiring by its shape alone, and gives each address one endpoint.

    Raises:
        TopologyError: The models do not fit the wiring, or a handler cannot be loaded.
    """
    with source.collector_off():
        return _lock(draft, models)


def _lock(draft: Draft, models: Mapping[str, Model] | None) -> Locked:
    found = Report(list(draft.found))
    wired = Wired(list(draft.ends))
    whole = not found.has_errors()
    if models is not None:
        models = {**models, **bus.models(draft.lowered)}
        by_models = Report(whole=not found.has_errors())
        wiring.check_models(draft.lowered, models, by_models)
        wired = wiring.connect(draft.ends, models, draft.table, draft.mentioned, by_models)
        agreement.check(wired, models, by_models)
        surroundings.check(draft.document, models, by_models)
        found.add(by_models)
    configured = configurations.resolve(
        draft.document, draft.lowered, models or {},
        given=configurations.Outside(draft.environment, draft.overrides, whole), found=found,
    )  # fmt: skip
    warnings = found.finish(draft.files)
    resolver = _Resolver(draft, wired, configured)
    components = {
        made.name: made
        for component in draft.lowered.values()
        for made in resolver.instances(component)
    }
    locked = Lock(
        name=draft.name,
        key=draft.key,
        topology=str(draft.topology),
        base_dir=str(draft.base_dir),
        runtime_dir=str(draft.runtime_dir),
        components=components,
        groups=draft.groups,
        jobs={name: resolver.job(job) for name, job in draft.jobs.items()},
        job_concurrency=draft.document.top.get("job_concurrency"),
        job_mirror=draft.mirror,
        start_concurrency=draft.document.top.get("start_concurrency", 64),
        restart_rate=float(draft.document.top.get("restart_rate", 20)),
    )
    document = draft.document
    declared = {**document.components, **document.jobs}
    return Locked(locked, document.secrets(), warnings, declared, configured, document.settings)


class _Resolver(Struct):
    draft: Draft
    wired: Wired
    configured: Mapping[str, Configured]
    ends: dict[str, list[wiring.End]] = field(default_factory=dict)
    subscribers: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for end in self.wired.ends:
            self.ends.setdefault(end.component.base, []).append(end)
        for spot in sorted(self.wired.plugs):
            # The ports of all instances are settled in one order, whoever asks first.
            for number in range(self.wired.binders(spot)):
                self.draft.table.endpoint(*spot, number + 1)
        for (base, group, direction, name), plugs in self.wired.by_end.items():
            for plug in plugs:
                if group == "connections" and direction == "out" and plug.socket == "publisher":
                    count = self.subscribed(plug)
                    if count:
                        self.subscribers.setdefault(base, {})[name] = count

    def subscribed(self, plug: wiring.Plug) -> int:
        """Return how many subscribers a publisher sees: of all that a bus has, one."""
        name, _ = plug.spot
        if self.draft.table.declared[name].bus:
            return min(1, self.wired.subscribers((name, "subscribe"), plug.topic))
        return self.wired.subscribers(plug.spot)

    def instances(self, component: Lowered) -> list[Component]:
        return [self.instance(component, number + 1) for number in range(component.replicas)]

    def instance(self, component: Lowered, number: int) -> Component:
        declared = component.declared
        context = _Context(self, component, number)
        options = component.options
        if context.is_needed:
            options = context.options(options)
        working_dir = context.text(component.working_dir)
        if isinstance(component.working_dir, Template):
            working_dir = os.path.normpath(declared.directory / working_dir)
        return Component(
            service=declared.service,
            component=declared.component,
            instance=number,
            replicas=component.replicas,
            handler=component.handler,
            package=component.package,
            service_class=component.service_class,
            command=context.command(component.command),
            mode=component.mode,
            enabled=component.enabled,
            depends_on=_sorted(component.depends_on),
            connections=self.wiring_of(component, "connections", number, context),
            states=self.wiring_of(component, "states", number, context),
            endpoints=self.terms_of(component, number),
            expect_subscribers=self.subscribers.get(component.base, {}),
            config=self.config_of(component, context),
            surroundings=self.surroundings(component, context),
            configurations=self.objects_of(component, number, context),
            settings=self.settings_of(component, context),
            takes_settings=self.takes_settings(component),
            environment=context.value(component.environment),
            inherited=component.inherited,
            secrets=tuple(sorted(context.secrets)),
            python_path=component.python_path,
            working_dir=working_dir,
            **options,
        )

    def job(self, job: LoweredJob) -> Job:
        context = _Context(self, job, 1)
        options = context.options(job.options) if context.is_needed else job.options
        return Job(
            parent=job.declared.service,
            job=job.declared.component,
            command=context.command(job.command),
            environment=context.value(job.environment),
            inherited=job.inherited,
            secrets=tuple(sorted(context.secrets)),
            directory=str(job.declared.directory),
            **options,
        )

    def wiring_of(self, component: Lowered, group: str, number: int, context: _Context) -> Wiring:
        sides: dict[str, dict[str, Any]] = {"in": {}, "out": {}}
        for end in () if component.bus else self.ends.get(component.base, ()):
            if end.group != group:
                continue
            plugs = self.wired.by_end.get((component.base, group, end.direction, end.name))
            if plugs is not None:
                sides[end.direction][end.name] = {
                    plug.socket: self.endpoint(plug, number) for plug in plugs
                }
            elif "" in end.sockets:
                sides[end.direction][end.name] = self.met(end.sockets[""])
            else:
                sides[end.direction][end.name] = {
                    socket: self.met(spot) for socket, spot in end.sockets.items()
                }
            if end.persist is not None:
                sides[end.direction][end.name] = {
                    **sides[end.direction][end.name],
                    "persist": self.store(context.text(end.persist)),
                }
        if not sides["in"] and not sides["out"]:
            return UNWIRED
        return Wiring(sides["in"], sides["out"])

    def store(self, persist: str) -> str:
        """Return where a state is kept: in a server, under the system's name."""
        if persist == "sqlite" or "#" in persist:
            return persist
        return f"{persist}#{self.draft.name}"

    def config_of(self, component: Lowered, context: _Context) -> dict[str, Any]:
        """Return what a component is configured with; a bus is told whom to wait for."""
        count = self.wired.subscribers((component.bus, "subscribe")) if component.bus else 0
        if component.bus:
            more = {"subscribers": count} if count else {}
            bus_config: dict[str, Any] = context.value({**component.config, **more})
            return bus_config
        found: dict[str, Any] = context.value(self.configured[component.base].plain().values)
        # Modules give values of types that JSON has not; the component's model has them again.
        return exactjson.simple(found) if component.config_files else found

    def objects_of(self, component: Lowered, number: int, context: _Context) -> dict[str, Any]:
        """Return the configuration objects of an instance, by full name, as their files are."""
        made: dict[str, Any] = {}
        if component.bus:
            return made
        name = component.own_name(number)
        for described, layered in self.configured[component.base].objects(name):
            values = context.value(layered.values)
            made[described["fullname"]] = {
                "conf": {
                    key: exactjson.dump(configurations.value_of(one["plain"], values[key]))
                    for key, one in described["fields"].items()
                },
                "defaults": [key for key in described["fields"] if layered.is_of_code(key)],
            }
        context.secrets.update(configurations.secrets_in(made, self.draft.document.secrets()))
        return made

    def takes_settings(self, component: Lowered) -> bool:
        """Tell whether the code of a component has a hook for changed settings."""
        if component.bus:
            return False
        return self.configured[component.base].answer.get("takes_settings") is True

    def settings_of(self, component: Lowered, context: _Context) -> dict[str, Any]:
        """Return the settings that a component reads itself; of secret ones the names go along."""
        if component.package is None and not self.takes_settings(component):
            return {}
        every = self.draft.document.settings
        answer = self.configured[component.base].answer
        names = answer.get("settings") or () if answer and component.package else every
        context.secrets.update(name for name in names if name in every and every[name].secret)
        return {
            name: every[name].value
            for name in names
            if name in every and not every[name].secret and every[name].value is not None
        }

    def surroundings(self, component: Lowered, context: _Context) -> Surroundings:
        """Return what a service class, or a package, finds in its process."""
        if component.service_class is None and component.package is None:
            return BARE
        loaded = self.draft.document
        return Surroundings(
            context.text(self.draft.store),
            context.value(surroundings.entries(loaded, "contexts")),
            context.value(surroundings.entries(loaded, "default_services")),
        )

    def terms_of(self, component: Lowered, number: int) -> dict[str, Endpoint]:
        """Return the terms of the endpoints of an instance, where they are not the usual ones."""
        found: dict[str, Endpoint] = {}
        for end in () if component.bus else self.ends.get(component.base, ()):
            for spot in end.sockets.values():
                terms = self.draft.table.declared[spot[0]].terms
                if terms == _USUAL:
                    continue
                met = self.met(spot)
                own = self.draft.table.endpoint(*spot, number)
                for endpoint in {own, *([met] if isinstance(met, str) else met)}:
                    found[endpoint] = terms
        return dict(sorted(found.items()))

    def endpoint(self, plug: wiring.Plug, number: int) -> str | list[str]:
        """Return what a socket of an instance uses: its own to bind, all to connect."""
        if plug.binds:
            return self.draft.table.endpoint(*plug.spot, number)
        return self.met(plug.spot)

    def met(self, spot: wiring.Spot) -> str | list[str]:
        """Return what connects to a spot: the endpoint of its binder, of each if replicated."""
        table = self.draft.table
        count = self.wired.binders(spot)
        if count == 1:
            return addresses.reachable(table.endpoint(*spot))
        return [table.endpoint(*spot, one + 1) for one in range(count)]

    def address(self, rest: str, text: str) -> str:
        """Return what `${addresses.REST}` means."""
        name, *steps = rest.split(".")
        known = self.draft.table.declared[name].parts
        part = steps[0] if steps and steps[0] in known else ""
        return checks.resolve_address(
            rest, text, self.draft.table, self.wired.binders((name, part))
        )


_USUAL = Endpoint()


class _Context:
    """What the references in the texts of one instance mean."""

    def __init__(self, resolver: _Resolver, component: Lowered | LoweredJob, number: int) -> None:
        self.resolver = resolver
        self.component = component
        self.number = number
        self.replicas = component.replicas if isinstance(component, Lowered) else 1
        self.secrets: set[str] = set()
        self.is_needed = bool(resolver.draft.document.templates)

    def lookup(self, reference: Reference) -> Any:
        declared = self.component.declared
        match reference.namespace, reference.rest:
            case "settings", name:
                self.secrets.add(name)
                return f"${{settings.{name}}}"
            case "addresses", rest:
                return self.resolver.address(rest, reference.text)
            case "self", "instance":
                return self.number
            case "self", "name":
                return names.instance_name(
                    declared.service, declared.component, self.number, self.replicas
                )
            case "self", "run_dir":
                return str(self.resolver.draft.runtime_dir)
            case _:
                pass
        raise AssertionError(f"internal error: {reference.text!r} was not settled before")

    def text(self, text: str) -> str:
        if not isinstance(text, Template):
            return text
        return interpolate.as_text(interpolate.expand(text, self.lookup))

    def value(self, value: Any) -> Any:
        """Return a value with the texts in it resolved; itself when nothing has to be."""
        if not self.is_needed:
            return value
        if isinstance(value, Template):
            return interpolate.expand(value, self.lookup)
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item) for item in value]
        return value

    def words(self, words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple([self.text(word) for word in words])

    def command(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """Return the words of a command; a program's path counts from the declaring file."""
        if not self.is_needed:
            return words
        made = self.words(words)
        if made and isinstance(words[0], Template) and "/" in made[0]:
            return (os.path.normpath(self.component.declared.directory / made[0]), *made[1:])
        return made

    def probe(self, probe: Probe) -> Probe:
        made = structs.replace(
            probe,
            exec=self.command(probe.exec),
            http=None if probe.http is None else self.text(probe.http),
            tcp=None if probe.tcp is None else self.text(probe.tcp).removeprefix("tcp://"),
        )
        if isinstance(made, Ready) and made.log is not None:
            return structs.replace(made, log=self.text(made.log))
        return made

    def options(self, options: dict[str, Any]) -> dict[str, Any]:
        made = dict(options)
        for name in ("ready", "live", "startup"):
            if isinstance(probe := options.get(name), Probe):
                made[name] = self.probe(probe)
        stop = options.get("stop")
        if isinstance(stop, Stop):
            made["stop"] = structs.replace(stop, command=self.command(stop.command))
        return made


def _sorted(needs: Mapping[str, Dependency]) -> dict[str, Dependency]:
    return dict(sorted(needs.items()))
