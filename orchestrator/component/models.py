"""Message models, compiled once.

A model says which arguments a message has: `{"order_id": str, "levels": {Decimal: Decimal},
"tags": {str}}`.

    T                   an instance of the class; bool passes as int
    {T: U}              a dict of any size; T may be a class or a tuple of classes
    {"a": T, "b": U}    a dict with these keys: all of them, and others may be, within required
                        arguments; any of them, and no others, within optional ones
    [T]                 a list (or tuple) of any size
    (T, U)              a tuple (or list) of exactly these items; arrives as a tuple
    {T}                 a set of any size
    {"a", "b"}          a set of at least these values when required, at most these when optional
    def f(a, b): ...    a callable that takes as many arguments; within the process only
    object              anything that can be sent

Compiling makes functions that know their model; no message walks a model. The quick ones only tell
*whether* a value fits. When it does not, `explain` walks model and value once to name every
mistake.

No I/O here, and no ZeroMQ: reading models must work without either.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.component import kinds
from orchestrator.component.errors import ModelMismatch
from orchestrator.component.kinds import Kind, NotAModel, Plain
from orchestrator.wire import values


@dataclass(frozen=True, slots=True)
class Arguments:
    """The compiled arguments of a message, required and optional."""

    required: Mapping[str, Kind]
    optional: Mapping[str, Kind]
    accepts: Callable[[Any], bool]
    dump: Callable[[Any], Any] | None
    load: Callable[[Any], Any] | None

    def is_flat(self) -> bool:
        """Tell whether no argument is a container, nor of a type that is sent as one."""
        every = (*self.required.values(), *self.optional.values())
        return all(kind.cls in kinds.FLAT for kind in every)

    def check(self, arguments: object, subject: str) -> None:
        """Raise `ModelMismatch`, naming every mistake, unless `arguments` fit."""
        if not self.accepts(arguments):
            raise ModelMismatch(subject, tuple(self.explain(arguments)))

    def explain(self, arguments: object) -> Iterator[str]:
        """Yield every mistake in `arguments`."""
        if not isinstance(arguments, dict):
            yield f"expected a dict of arguments, got {kinds.shown(arguments)}"
            return
        for name, kind in self.required.items():
            if name not in arguments:
                yield f"{name!r} is missing: expected {kind.name}"
            elif not kind.accepts(arguments[name]):
                yield from kind.explain(arguments[name], kinds.key_path("", name))
        for name, value in arguments.items():
            if name in self.optional:
                if not self.optional[name].accepts(value):
                    yield from self.optional[name].explain(value, kinds.key_path("", name))
            elif name not in self.required:
                known = ", ".join(map(repr, (*self.required, *self.optional))) or "none"
                yield f"{name!r} is not declared; declared are {known}"

    def plain(self) -> dict[str, dict[str, Plain]]:
        """Return the model as plain data."""
        return {
            "required": {name: kind.plain for name, kind in self.required.items()},
            "optional": {name: kind.plain for name, kind in self.optional.items()},
        }


def arguments(
    required: Mapping[Any, Any] | None, optional: Mapping[Any, Any] | None, *, wire: bool = True
) -> Arguments:
    """Compile the arguments of a message; None stands for none.

    Args:
        required: Type by name of the arguments that must be there.
        optional: Type by name of those that may be.
        wire: Whether the values leave the process, and so must be of types that can be sent.

    Raises:
        NotAModel: A type is none, or cannot be sent.
    """
    must = _named(required, wire=wire, strict=False)
    may = _named(optional, wire=wire, strict=True)
    both = must.keys() & may.keys()
    if both:
        raise NotAModel(f"{min(both)!r} is both required and optional")
    return Arguments(
        must,
        may,
        _accept_arguments(must, may),
        kinds.dump_fields(must | may),
        kinds.load_fields(must | may),
    )


@functools.cache
def nothing() -> Arguments:
    """Return what takes no arguments, made once for all that are forked."""
    return arguments(None, None)


def _named(fields: Mapping[Any, Any] | None, *, wire: bool, strict: bool) -> dict[str, Kind]:
    if fields is None:
        return {}
    if not isinstance(fields, Mapping):
        raise NotAModel(f"expected a dict of types by name, got {kinds.shown(fields)}")
    for name in fields:
        if not isinstance(name, str) or name in values.MARKERS:
            raise NotAModel(
                f"the argument {name!r} needs a name that is text and no marker of the wire format"
            )
    return {
        name: kinds.compile_type(model, wire=wire, strict=strict, path=kinds.key_path("", name))
        for name, model in fields.items()
    }


def _accept_arguments(
    required: dict[str, Kind], optional: dict[str, Kind]
) -> Callable[[Any], bool]:
    complete = kinds.having(required, exactly=not optional)
    if not optional:
        return complete
    count, must = len(required), required.keys()
    tests = {name: kind.accepts for name, kind in optional.items()}

    def accepts(value: Any) -> bool:
        if not complete(value):
            return False
        if len(value) == count:
            return True
        for name, item in value.items():
            if name not in must:
                test = tests.get(name)
                if test is None or not test(item):
                    return False
        return True

    return accepts
