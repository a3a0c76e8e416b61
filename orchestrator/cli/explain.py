"""`orch explain`: why something is not running, or what a code or a type means."""

from __future__ import annotations

import re
from typing import Any

from orchestrator import client, config
from orchestrator.cli.session import Session
from orchestrator.component import explaining
from orchestrator.errors import ExitCode, UsageError

_CODE = re.compile(r"orc\d+", re.IGNORECASE)


def explain(session: Session, *, word: str) -> int:
    """Explain a code or a type without a daemon, a name with the daemon's help."""
    if _CODE.fullmatch(word):
        text = config.codes.explain(word.upper())
        if text is None:
            raise UsageError(f"unknown code {word!r}; codes look like ORC101")
        session.screen.data(text)
        return ExitCode.DONE
    if (text := explaining.text(word)) is not None:
        session.screen.data(text)
        return ExitCode.DONE
    explanations = session.connect().explain((word,))
    if session.options.json:
        session.screen.json(explanations)
        return ExitCode.DONE
    for explanation in explanations:
        session.screen.data(_text(explanation))
    return ExitCode.DONE


def _text(explanation: dict[str, Any]) -> str:
    sentence = ", because ".join(
        f"{link['name']} {link['says']}" for link in explanation["because"]
    )
    culprit = explanation["culprit"]
    if culprit is None:
        return sentence
    for path in (culprit["stderr"], culprit["stdout"]):
        lines = client.last_lines(path, client.LAST_LINES) if path else []
        if lines:
            return "\n".join((sentence, f"The end of {path}:", *(f"    {x}" for x in lines)))
    return sentence
