"""`${NAME}` in texts: parsed once, replaced where the value is known, kept where it is not yet.

    ${NAME}  ${env.NAME}         a variable of the caller's environment
    ${NAME:-default}             with a value for when it is unset or empty; may nest
    ${NAME:?message}             with the error for when it is unset or empty
    ${settings.NAME}             a setting; a text that is nothing else keeps the setting's type
    ${addresses.NAME}            an endpoint; also .PART, and .host and .port of either
    ${self.name} ${self.instance} ${self.run_dir}
    $$                           a dollar sign

Addresses and `self` differ between instances and secrets are never written down, so texts with
these stay `Template`s until their component is resolved. Any other `$` means itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from msgspec import Struct

NAMESPACES = ("settings", "addresses", "env", "self")
SELF = ("instance", "name", "run_dir")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_-]+)*")


class BadReference(Exception):
    """A reference cannot be read or resolved. `fragment` is how it is written."""

    def __init__(self, code: str, message: str, fragment: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fragment = fragment
        self.hint = hint


class Reference(Struct, frozen=True):
    """`${name}`, with `operator` `:-` or `:?` and its `operand`; `text` is all of it."""

    name: str
    text: str
    operator: str = ""
    operand: str = ""

    @property
    def namespace(self) -> str:
        """The namespace; plain names are variables of the environment."""
        head, dot, _ = self.name.partition(".")
        return head if dot else "env"

    @property
    def rest(self) -> str:
        """The name within the namespace."""
        head, dot, rest = self.name.partition(".")
        return rest if dot else head


class Template(str):
    """A text with references that cannot be replaced yet; the text still has its `$$`."""

    __slots__ = ()


Part = str | Reference
Lookup = Callable[[Reference], Any]
"""Gives the value of a reference; `LATER` when it is not known yet, None when it is not set."""

LATER: Any = object()


def parse(text: str) -> tuple[Part, ...]:
    """Return a text as plain pieces and references.

    Raises:
        BadReference: A `${` is not closed, or what stands in it is no name.
    """
    parts: list[Part] = []
    plain: list[str] = []
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        plain.append(text[at:dollar])
        following = text[dollar + 1 : dollar + 2]
        if following == "$":
            plain.append("$")
            at = dollar + 2
        elif following == "{":
            end = _closing(text, dollar)
            if joined := "".join(plain):
                parts.append(joined)
            plain = []
            parts.append(_reference(text[dollar : end + 1]))
            at = end + 1
        else:
            plain.append("$")
            at = dollar + 1
    plain.append(text[at:])
    if joined := "".join(plain):
        parts.append(joined)
    return tuple(parts)


def expand(text: str, lookup: Lookup) -> Any:
    """Return a text with its references replaced; a Template when one is not known yet.

    A text that is one reference and nothing else has the value's own type.

    Raises:
        BadReference: A reference cannot be read, or has no value.
    """
    parts = parse(text)
    if len(parts) == 1 and isinstance(parts[0], Reference):
        value = _value(parts[0], lookup)
        return Template(text) if value is LATER else value
    pieces: list[str] = []
    known = True
    for part in parts:
        if isinstance(part, str):
            pieces.append(part.replace("$", "$$"))
            continue
        value = _value(part, lookup)
        if value is LATER or isinstance(value, Template):
            known = False
            pieces.append(part.text if value is LATER else value)
        else:
            pieces.append(as_text(value).replace("$", "$$"))
    joined = "".join(pieces)
    return joined.replace("$$", "$") if known else Template(joined)


def references(text: str) -> tuple[Reference, ...]:
    """Return the references of a text, those inside defaults too; broken ones are left out."""
    try:
        parts = parse(text)
    except BadReference:
        return ()
    found: list[Reference] = []
    for part in parts:
        if isinstance(part, Reference):
            found.append(part)
            found.extend(references(part.operand))
    return tuple(found)


def as_text(value: Any) -> str:
    """Return a value as it stands in a text: booleans as YAML writes them, lists as JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, dict)):
        return json.dumps(value)
    return str(value)


def _value(reference: Reference, lookup: Lookup) -> Any:
    value = lookup(reference)
    if value is LATER:
        return LATER
    if value is None or (value == "" and reference.operator):
        return _otherwise(reference, lookup)
    return value


def _otherwise(reference: Reference, lookup: Lookup) -> Any:
    if reference.operator == ":-":
        return expand(reference.operand, lookup)
    if reference.operator == ":?":
        said = expand(reference.operand, lookup) or "it is required"
        raise BadReference("ORC024", f"{reference.name} has no value: {said}", reference.text)
    hint = f"set it in the environment, or write ${{{reference.name}:-default}}"
    raise BadReference("ORC021", f"the variable {reference.rest} is not set", reference.text, hint)


def _closing(text: str, dollar: int) -> int:
    depth = 0
    at = dollar
    while at < len(text):
        if text.startswith("${", at):
            depth += 1
            at += 2
            continue
        if text[at] == "}":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    hint = "close it with }, or write $$ for a dollar sign"
    raise BadReference("ORC020", "`${` is not closed", text[dollar : dollar + 2], hint)


def _reference(text: str) -> Reference:
    inside = text[2:-1]
    match = _NAME.match(inside)
    if match is None:
        raise BadReference("ORC020", f"{text!r} names nothing", text, "write ${NAME}")
    rest = inside[match.end() :]
    if rest[:2] in {":-", ":?"}:
        return Reference(match[0], text, rest[:2], rest[2:])
    if rest:
        hint = "write ${NAME}, ${NAME:-default} or ${NAME:?message}"
        raise BadReference("ORC020", f"{text!r}: {rest!r} cannot stand after the name", text, hint)
    return Reference(match[0], text)
