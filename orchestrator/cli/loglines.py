"""How log lines look: prefixed and coloured for people, raw bytes, or JSON lines."""

from __future__ import annotations

import json
import re
from typing import BinaryIO, NamedTuple

from orchestrator.cli import screen

LONGEST = 1 << 20
"""A longer line is shown in pieces, so that it cannot fill the memory. Pieces after the first
are marked: `|+` in the prefix, `"continued"` in JSON."""


class Style(NamedTuple):
    """How lines are shown.

    `terminal` replaces invalid UTF-8, which a terminal could not show; anybody else gets
    the bytes as they are. `times` puts before each line when it was written. `pattern` leaves
    out the lines it does not match.
    """

    prefix: bool = True
    coloured: bool = False
    terminal: bool = False
    json: bool = False
    times: bool = False
    pattern: re.Pattern[bytes] | None = None

    @property
    def is_raw(self) -> bool:
        """Whether bytes are shown as they come."""
        return not (self.prefix or self.json or self.times or self.pattern is not None)


class Writer:
    """Turns the bytes of one log file into shown lines on a stream."""

    __slots__ = ("_continues", "_held", "_name", "_out", "_stamp", "_stream", "_style")

    def __init__(self, name: str, stream: str, out: BinaryIO, style: Style) -> None:
        self._name = name
        self._stream = stream
        self._out = out
        self._style = style
        self._held = b""
        self._continues = False
        self._stamp = (-1.0, "")

    def write(self, data: bytes, width: int, time: float = 0.0) -> None:
        """Show the lines that `data` completes; an unfinished one is held back.

        Args:
            data: The next bytes of the file.
            width: How wide names are, for the prefix.
            time: When they were written, in seconds since 1970.
        """
        if self._style.is_raw:
            self._out.write(data)
            return
        text = self._held + data if self._held else data
        end = text.rfind(b"\n") + 1
        self._held = text[end:]
        if end:
            self._show(text[:end], width, time)
        while len(self._held) > LONGEST:
            end = _between_characters(self._held, LONGEST)
            piece, self._held = self._held[:end], self._held[end:]
            self._show(piece, width, time)
            self._continues = True

    def flush(self, width: int, time: float = 0.0) -> None:
        """Show the unfinished line that was held back: no more of it comes."""
        held, self._held = self._held, b""
        if held:
            self._show(held, width, time)
            self._continues = False

    def _show(self, text: bytes, width: int, time: float) -> None:
        """Show lines; the first goes on where the last piece of a long one ended."""
        lines = text.split(b"\n")
        if not lines[-1]:
            lines.pop()
        continued = lines[:1] if self._continues else []
        self._continues = False
        for some, goes_on in ((continued, True), (lines[len(continued) :], False)):
            pattern = self._style.pattern
            kept = [line for line in some if pattern.search(line)] if pattern else some
            if kept:
                self._out.write(self._shown(kept, width, time, goes_on=goes_on))

    def _shown(self, lines: list[bytes], width: int, time: float, *, goes_on: bool) -> bytes:
        style = self._style
        if style.json:
            stamp = self._time(time)
            objects = (self._json(line, stamp, goes_on=goes_on) for line in lines)
            return "".join(objects).encode("utf-8", "replace")
        prefix = self._prefix(width, goes_on=goes_on) if style.prefix else b""
        if style.times:
            prefix += self._time(time).encode() + b" "
        body = (b"\n" + prefix).join(lines)
        if style.terminal:
            body = body.decode("utf-8", "replace").encode()
        return prefix + body + b"\n"

    def _prefix(self, width: int, *, goes_on: bool) -> bytes:
        label = f"{self._name:<{width}}  |" + ("+" if goes_on else "")
        colour = screen.colour_of(self._name.partition(".")[0])
        return screen.paint(label, colour, on=self._style.coloured).encode() + b" "

    def _time(self, time: float) -> str:
        if self._stamp[0] != time:
            from datetime import UTC, datetime  # noqa: PLC0415 - plain logs need no clock

            shown = datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")
            self._stamp = (time, shown.replace("+00:00", "Z"))
        return self._stamp[1]

    def _json(self, line: bytes, stamp: str, *, goes_on: bool) -> str:
        shown = line.decode("utf-8", "replace")
        value: dict[str, object] = {
            "name": self._name,
            "stream": self._stream,
            "time": stamp,
            "line": shown,
        }
        if goes_on:
            value["continued"] = True
        return json.dumps(value, ensure_ascii=False) + "\n"


def _between_characters(text: bytes, end: int) -> int:
    """Return an offset at most three bytes before `end`, within `text`, that cuts no character."""
    for back in range(4):
        if text[end - back] & 0xC0 != 0x80:
            return end - back
    return end
