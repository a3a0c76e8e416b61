"""`orch explain`: why something is not running, or what a code or a type means."""

from __future__ import annotations

import re
from typing import Any

from orchestrator import client, config
from orchestrator.cli.runs import among
from orchestrator.cli.session import Session
from orchestrator.client import Client, RunRow, runs
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
    daemon = session.connect()
    names, found = among(daemon, (word,))
    explanations = daemon.explain(names) if names else [_of_run(daemon, row) for row in found]
    if session.options.json:
        session.screen.json(explanations)
        return ExitCode.DONE
    for explanation in explanations:
        session.screen.data(_text(explanation))
    return ExitCode.DONE


def _of_run(daemon: Client, row: RunRow) -> dict[str, Any]:
    """Return why a run is as it is, in the shape of `Client.explain`: through those before it."""
    chain = [row]
    while (cause := _predecessor(chain[-1])) is not None:
        (found,) = daemon.request("runs", ids=[cause])["runs"]
        chain.append(found)
    because = [{"name": one["name"], "says": f"is {one['state']}"} for one in chain]
    why = runs.reason(chain[-1])
    if why:
        because[-1]["says"] += f": {why}"
    return {"name": row["name"], "because": because, "culprit": None, "run": chain[-1]}


def _predecessor(row: RunRow) -> str | None:
    """Return the id of a run that keeps `row` from beginning, or has made it fail."""
    if row["state"] != "queued" and row["result"] != "dependency":
        return None
    for after in row["after"]:
        is_met = after["state"] == after["condition"] or (
            after["condition"] == "completed" and after["state"] in runs.FINISHED
        )
        if not is_met and after["state"] is not None:
            return str(after["id"])
    return None


def _text(explanation: dict[str, Any]) -> str:
    sentence = ", because ".join(
        f"{link['name']} {link['says']}" for link in explanation["because"]
    )
    culprit, run = explanation["culprit"], explanation.get("run")
    if run is not None and run["state"] == "failed":
        paths = [run["output"]]
    elif culprit is not None:
        paths = [culprit["stderr"], culprit["stdout"]]
    else:
        return sentence
    for path in paths:
        lines = client.last_lines(path, client.LAST_LINES) if path else []
        if lines:
            return "\n".join((sentence, f"The end of {path}:", *(f"    {x}" for x in lines)))
    return sentence
