"""What references mean before components are resolved: variables, settings, known names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.config import compose, interpolate, report
from orchestrator.config.document import Setting
from orchestrator.config.interpolate import BadReference, Reference

VARIABLE = "ORCH_SETTING_"
"""Prefix of the environment variables that give settings."""


def lookup(
    reference: Reference, environment: Mapping[str, str], settings: Mapping[str, Setting],
    addresses: Mapping[str, None],
) -> Any:  # fmt: skip
    """Return the value of a reference: LATER when the instance decides, None when not set.

    Raises:
        BadReference: It names what does not exist, or a setting without a value.
    """
    name, text = reference.rest, reference.text
    match reference.namespace:
        case "env":
            value = environment.get(name)
            if value is None and not reference.operator and "." not in reference.name:
                for space, known in (("settings", settings), ("addresses", addresses)):
                    if name in known:
                        hint = f"did you mean ${{{space}.{name}}}?"
                        raise BadReference("ORC021", f"the variable {name} is not set", text, hint)
            return value
        case "settings":
            if name not in settings:
                hint = report.known(name, settings)
                raise BadReference("ORC022", f"there is no setting {name!r}", text, hint)
            setting = settings[name]
            if setting.value is None and not reference.operator:
                hint = f"give it a default, or --set {name}=…"
                raise BadReference("ORC022", f"the setting {name!r} has no value", text, hint)
            return (
                interpolate.LATER
                if setting.secret and setting.value is not None
                else setting.value
            )
        case "addresses":
            base = name.partition(".")[0]
            if base not in addresses:
                hint = report.known(base, addresses)
                raise BadReference("ORC023", f"there is no address {base!r}", text, hint)
            return interpolate.LATER
        case "self":
            if name in interpolate.SELF:
                return interpolate.LATER
            hint = f"self has {report.listed(interpolate.SELF)}"
            raise BadReference("ORC028", f"self has no {name!r}", text, hint)
        case _:
            pass
    spaces = interpolate.NAMESPACES
    hint = report.did_you_mean(reference.namespace, spaces) or f"there are {report.listed(spaces)}"
    raise BadReference("ORC028", f"there is no namespace {reference.namespace!r}", text, hint)


def as_type_of(default: Any, text: str) -> Any:
    """Return a given text as a value of the default's type; without one it is text.

    Raises:
        ValueError: It is no such value; the message goes on from "is".
    """
    if isinstance(default, bool):
        value = compose.scalar(text)
        if not isinstance(value, bool):
            raise ValueError("neither true nor false")  # noqa: TRY004  # a bad text
        return value
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            raise ValueError("no whole number") from None
    if isinstance(default, float):
        try:
            return float(text)
        except ValueError:
            raise ValueError("no number") from None
    return text
