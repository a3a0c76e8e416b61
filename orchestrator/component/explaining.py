"""What a type of connection or state is and takes, in words: for `orch explain replyer`.

Drawn from the tables that handler files are checked with, so that it cannot be out of date.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.component import connections, states
from orchestrator.component.connections import Type

TYPES: Mapping[str, Type] = {**connections.TYPES, **states.TYPES}

_DOES = {
    "replyer": "calls its function for each request; what that returns is the reply",
    "subscriber": "calls its function for each message of its topic",
    "requester": "to_send sends a request and returns the reply",
    "publisher": "to_send sends a message to all subscribers",
    "external_request": "to_send calls a function of its own process, under the same model",
    "full_update_in": "states has a copy, replaced by each update",
    "delta_update_in": "states has a copy, changed by each update",
    "full_update_out": "to_send sends all of the state to every copy",
    "delta_update_out": "to_send sends what changes to every copy; None deletes a key",
}

_FUNCTION = {
    "in": "the function, or its name, or package.module.function; also under on_NAME, on_new_NAME",
    "out": "the function, or its name, or package.module.function; also under target",
}

_MEANS = {
    "topic": "topics match whole; default: none",
    "is_x_sub": "at a bus; connects as always",
    "idempotent": "whether a request may be sent again; default False",
    "attempts": f"how often at most, of an idempotent request; default {connections.ATTEMPTS}",
    "backoff": "seconds before the second attempt, doubled for each further one; "
    f"default {connections.BACKOFF}",
    "is_x_pub": "connect to a bus instead of binding; an address that is one says so itself",
    "wait_after_creation_s": "seconds to wait when the socket is open; default 0",
    "min_subscribers": "how many subscribers to wait for before the first message",
    "subscribers_timeout": f"for how many seconds; default {connections.SUBSCRIBERS_TIMEOUT:g}",
}

_TIMEOUTS = {
    "requester": f"seconds until RequestTimeout, all attempts together; "
    f"default {connections.REQUEST_TIMEOUT:g}",
    "publisher": f"seconds to wait for a slow subscriber until SendTimeout; "
    f"default {connections.SEND_TIMEOUT:g}",
}


def text(word: str) -> str | None:
    """Return what a type is and which arguments it takes; None for a word that is no type.

    Another name of a type is explained as that type, one of either side's as both.
    """
    names = [connections.ALIASES.get(word, word)]
    if word in states.ALIASES:
        names = [f"{states.ALIASES[word]}_{side}" for side in ("in", "out")]
    found = [_text(TYPES[name]) for name in names if name in TYPES]
    return "\n\n".join(found) or None


def _text(kind: Type) -> str:
    noun = "connection" if kind.name in connections.TYPES else "state"
    lines = [
        f"{kind.name}: {'inward' if kind.side == 'in' else 'outward'} {noun}; {_DOES[kind.name]}"
    ]
    if kind.partners:
        binds = "binds its address" if kind.binds else "connects to its address"
        lines.append(f"  {binds}; at the other end: {', '.join(kind.partners)}")
    creation = {kind.function: _FUNCTION[kind.side]} if kind.function else {}
    for name, types in kind.creation.items():
        said = _TIMEOUTS[kind.name] if name == "timeout" else _MEANS[name]
        creation[name] = f"{' or '.join(one.__name__ for one in types)}: {said}"
    lines.append("  required_creation_arguments, optional_creation_arguments:")
    width = max(map(len, creation))
    lines += [f"    {name:<{width}}  {said}" for name, said in creation.items()]
    return "\n".join([*lines, *_models(kind, noun)])


def _models(kind: Type, noun: str) -> list[str]:
    if noun == "state":
        return [
            "  required_arguments, optional_arguments:",
            "    the keys of the state and their types, or {T: T}"
            + (" or one type for all of it" if kind.name.startswith("full") else ""),
        ]
    lines = ["  required_arguments, optional_arguments:", "    what is sent, by name"]
    if "publisher" not in (kind.name, *kind.partners):
        lines += [
            "  required_return_arguments, optional_return_arguments:",
            "    the reply, by name",
        ]
    return lines
