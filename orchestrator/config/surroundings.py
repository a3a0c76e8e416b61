"""What service classes find in their process: manifests, the configuration store, contexts.

Manifests are YAML files of any number of documents, each a map with a `kind`; they are read here,
so that mistakes are told at their place and the lock carries what they say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.config import compose, report, validate
from orchestrator.config.document import Declared, Document
from orchestrator.config.interpolate import Template
from orchestrator.config.report import Place, Report
from orchestrator.config.source import Source, Span

_BEGIN = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_SERVERS = ("redis://", "rediss://", "unix://")

SECTIONS = {"contexts": "context", "default_services": "default service"}
"""The sections of the topology that name classes, and what each of their entries is."""


def store(loaded: Document, found: Report) -> str:
    """Return where configuration is kept; a server keeps it under the system's name."""
    word = loaded.top.get("config_store", "sqlite")
    if word == "sqlite" or not isinstance(word, str):
        return "sqlite"
    if not word.startswith((*_SERVERS, "${")):
        place = Place(loaded.root, loaded.top, "config_store")
        hint = "write sqlite, redis://HOST/0, rediss://HOST/0 or unix:///PATH"
        found.error("ORC470", f"{word!r} is no configuration store", place, hint=hint)
    if "#" in word:
        return word
    whole = f"{word}#{loaded.name}"
    return Template(whole) if isinstance(word, Template) else whole


def entries(loaded: Document, section: str) -> dict[str, dict[str, Any]]:
    """Return the entries of a section by name, `module:Class` alone written as a map.

    Those that are at fault are left out.
    """
    raw = loaded.top.get(section) or {}
    every = {name: {"class": one} if isinstance(one, str) else one for name, one in raw.items()}
    return {name: one for name, one in every.items() if isinstance(one, dict) and "class" in one}


def requests(loaded: Document) -> Iterator[dict[str, Any]]:
    """Yield what the inspection is asked about the classes that the topology names."""
    for section in SECTIONS:
        for name, entry in entries(loaded, section).items():
            yield {
                "name": f"{section}.{name}",
                "class": entry["class"],
                "service": section == "default_services",
                "python_path": [str(loaded.root.directory)],
            }


def check(loaded: Document, answers: Mapping[str, Mapping[str, Any]], found: Report) -> None:
    """Report the classes that cannot be loaded, or are no services."""
    for section, what in SECTIONS.items():
        for name in entries(loaded, section):
            error = answers.get(f"{section}.{name}", {}).get("error")
            if not error:
                continue
            raw = loaded.top[section]
            place = Place(loaded.root, raw, name)
            if isinstance(raw[name], dict):
                place = Place(loaded.root, raw[name], "class")
            where = (
                f" ({report.shown_path(error['file'])}:{error['line']})" if error["file"] else ""
            )
            message = f"cannot load the {what} {name!r}: {error['message']}{where}"
            found.error("ORC473", message, place)


def switches(source: Source, config: dict[str, Any], found: Report) -> None:
    """Report switches of a service's configuration that are neither on nor off."""
    for name in ("enabled", "quiet"):
        value = config.get(name, False)
        if not isinstance(value, (bool, Template)):
            message = f"`{name}` of a service is true or false, not {validate.kind_of(value)}"
            found.error("ORC474", message, Place(source, config, name))


def check_entries(loaded: Document, found: Report) -> None:
    """Report what is wrong with default services, as far as it needs no code."""
    for entry in entries(loaded, "default_services").values():
        switches(loaded.root, entry.get("config", {}), found)


def manifests(declared: Declared, words: Iterable[str], found: Report) -> dict[str, Any]:
    """Return the documents of manifest files, by kind, in the order of the files."""
    grouped: dict[str, list[Any]] = {}
    for number, word in enumerate(words):
        place = declared.at("manifests", number)
        path = place.source.directory / word
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            found.error(
                "ORC471",
                f"cannot read the manifest {word!r}: {why}",
                place,
                hint=f"looked for {path}",
            )
            continue
        for document in _documents(text, path, report.shown_path(str(path))):
            found.found.extend(document.diagnostics)
            if document.value is None:
                continue
            kind = document.value.get("kind") if isinstance(document.value, dict) else None
            if isinstance(kind, str) and kind:
                grouped.setdefault(kind, []).append(document.value)
            else:
                _report(document, place, found)
    return grouped


def _report(document: Source, named: Place, found: Report) -> None:
    related = (named.related("named here"),)
    if isinstance(document.value, dict) and "kind" in document.value:
        place = Place(document, document.value, "kind")
        found.error("ORC472", "the `kind` of a manifest is a text", place, related=related)
        return
    message = "a manifest is a map with a `kind`"
    start = len(document.text) - len(document.text.lstrip())
    span = Span(start, start + 1)
    if isinstance(document.value, (dict, list)) and document.value:
        span = document.container_span(document.value)
    found.found.append(document.diagnostic("ORC472", message, span, related=related))


def _documents(text: str, path: Path, file: str) -> Iterator[Source]:
    """Yield each document of a file as a source whose positions are those of the file."""
    starts = [0, *(match.start() for match in _BEGIN.finditer(text))]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        if start != end:
            before = "\n" * text.count("\n", 0, start)
            yield compose.parse((before + text[start:end]).encode(), path, file)
