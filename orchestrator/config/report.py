"""Collecting what is wrong: places in sources, and the diagnostics that point at them.

Every check reports and goes on, so that one run shows every mistake.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec import Struct, field, structs

from orchestrator.config.source import Container, Source, Span
from orchestrator.errors import Diagnostic, Related, Severity, TopologyError
from orchestrator.model.names import did_you_mean as did_you_mean  # noqa: PLC0414 - ours too


class Place(Struct, frozen=True):
    """A key or a value in a source; with `fragment`, the part of the value that reads so.

    `nth` counts equal fragments from 0.
    """

    source: Source
    container: Container
    key: str | int
    at_key: bool = False
    fragment: str = ""
    nth: int = 0

    @property
    def value(self) -> Any:
        """The value at the place."""
        container: Any = self.container
        return container[self.key]

    def put(self, value: Any) -> None:
        """Put another value at the place."""
        container: Any = self.container
        container[self.key] = value

    def span(self) -> Span:
        """Return where the place is in the text of its source."""
        if self.at_key:
            return self.source.key_span(self.container, self.key)
        span = self.source.value_span(self.container, self.key)
        if not self.fragment:
            return span
        start = span.start - 1
        for _ in range(self.nth + 1):
            found = self.source.text.find(self.fragment, start + 1, span.end)
            if found < 0:
                return span
            start = found
        return Span(start, start + len(self.fragment))

    def of_key(self) -> Place:
        """Return the place of the key instead of the value."""
        return structs.replace(self, at_key=True, fragment="")

    def of(self, fragment: str, nth: int = 0) -> Place:
        """Return the place of a fragment of the value."""
        return structs.replace(self, at_key=False, fragment=fragment, nth=nth)

    def related(self, message: str) -> Related:
        """Return the place as the second place of a diagnostic."""
        return Related(self.source.position(self.span().start), message)


class Report(Struct):
    """The diagnostics found so far, in the order of discovery.

    Without `whole` some of what is declared was at fault and left out: of nothing can be said
    that it is missing.
    """

    found: list[Diagnostic] = field(default_factory=list)
    whole: bool = True

    def error(
        self, code: str, message: str, place: Place, *, hint: str = "",
        related: Iterable[Related] = (),
    ) -> None:  # fmt: skip
        """Add an error."""
        self.found.append(
            place.source.diagnostic(code, message, place.span(), hint=hint, related=tuple(related))
        )

    def warn(
        self, code: str, message: str, place: Place, *, hint: str = "",
        related: Iterable[Related] = (),
    ) -> None:  # fmt: skip
        """Add a warning."""
        warning, span = Severity.WARNING, place.span()
        self.found.append(
            place.source.diagnostic(
                code, message, span, severity=warning, hint=hint, related=tuple(related)
            )
        )

    def add(self, other: Report) -> None:
        """Add what another found, but for places of which a mistake is known already."""
        known = {one.position for one in self.found if one.severity is Severity.ERROR}
        self.found.extend(one for one in other.found if one.position not in known)

    def has_errors(self) -> bool:
        """Tell whether anything found makes the topology unusable."""
        return any(one.severity is Severity.ERROR for one in self.found)

    def finish(self, files: Iterable[str]) -> tuple[Diagnostic, ...]:
        """Return the warnings, when there is nothing worse.

        Raises:
            TopologyError: There are errors. It carries the warnings too, sorted by file, in
                the order of `files`, and by position.
        """
        ordered = _sorted(self.found, files)
        if self.has_errors():
            raise TopologyError(ordered)
        return ordered


def known(word: str, names: Iterable[str], *, most: int = 8) -> str:
    """Return `did you mean …?`, or else the names there are when they are few."""
    every = [str(name) for name in names]
    near = did_you_mean(word, every)
    return near or (f"known: {listed(every)}" if 0 < len(every) <= most else "")


def listed(names: Iterable[str], limit: int = 12) -> str:
    """Return names for a sentence: `a, b and c`; the rest of a long list is counted."""
    some = [str(name) for name in names]
    if len(some) > limit:
        return ", ".join(some[:limit]) + f" and {len(some) - limit} more"
    return " and ".join(filter(None, [", ".join(some[:-1]), *some[-1:]]))


def shown_path(file: str) -> str:
    """Return a path as people know it from where they are."""
    path = Path(file)
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else file


def _sorted(found: Iterable[Diagnostic], files: Iterable[str]) -> tuple[Diagnostic, ...]:
    order = {file: number for number, file in enumerate(files)}
    unique = dict.fromkeys(found)
    return tuple(
        sorted(
            unique,
            key=lambda one: (
                order.get(one.position.file, len(order)),
                one.position.line,
                one.position.column,
            ),
        )
    )
