"""How log lines look: prefixed and coloured for people, raw bytes, or JSON lines."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import BinaryIO

from orchestrator.cli import screen

LONGEST = 1 << 20
"""An unfinished line of more bytes is shown in pieces, so that it cannot fill the memory."""


@dataclass(frozen=True, slots=True)
class Style:
    """How lines are shown.

    `terminal` replaces invalid UTF-8, which a terminal could not show; anybody else gets
    the bytes as they are. `pattern` leaves out the lines it does not match.
    """

    prefix: bool = True
    coloured: bool = False
    terminal: bool = False
    json: bool = False
    pattern: re.Pattern[bytes] | None = None


class Writer:
    """Turns the bytes of one log file into shown lines on a stream."""

    __slots__ = ("_held", "_name", "_out", "_stream", "_style")

    def __init__(self, name: str, stream: str, out: BinaryIO, style: Style) -> None:
        self._name = name
        self._stream = stream
        self._out = out
        self._style = style
        self._held = b""

    def write(self, data: bytes, width: int) -> None:
        """Show the lines that `data` completes; an unfinished one is held back.

        Args:
            data: The next bytes of the file.
            width: How wide names are, for the prefix.
        """
        if not self._holds_back:
            self._out.write(data)
            return
        text = self._held + data
        end = text.rfind(b"\n") + 1
        if not end and len(text) < LONGEST:
            self._held = text
            return
        if len(text) - end >= LONGEST:
            end = len(text)
        self._held = text[end:]
        self._show(text[:end], width)

    def flush(self, width: int) -> None:
        """Show the unfinished line that was held back: no more of it comes."""
        held, self._held = self._held, b""
        if held:
            self._show(held, width)

    @property
    def _holds_back(self) -> bool:
        style = self._style
        return style.prefix or style.json or style.pattern is not None

    def _show(self, text: bytes, width: int) -> None:
        style = self._style
        if style.pattern is None and not style.json:
            self._out.write(self._prefixed(text, width))
            return
        lines = text.split(b"\n")
        if not lines[-1]:
            lines.pop()
        if style.pattern is not None:
            lines = [line for line in lines if style.pattern.search(line)]
        if not lines:
            return
        if style.json:
            self._out.write("".join(map(self._json, lines)).encode("utf-8", "replace"))
        elif style.prefix:
            self._out.write(self._prefixed(b"\n".join(lines), width))
        else:
            self._out.write(b"\n".join(lines) + b"\n")

    def _prefixed(self, text: bytes, width: int) -> bytes:
        style = self._style
        label = f"{self._name:<{width}}  |"
        colour = screen.colour_of(self._name.partition(".")[0])
        prefix = screen.paint(label, colour, on=style.coloured).encode() + b" "
        if style.terminal:
            text = text.decode("utf-8", "replace").encode()
        body = text[:-1] if text.endswith(b"\n") else text
        return prefix + body.replace(b"\n", b"\n" + prefix) + b"\n"

    def _json(self, line: bytes) -> str:
        shown = line.decode("utf-8", "replace")
        value = {"name": self._name, "stream": self._stream, "line": shown}
        return json.dumps(value, ensure_ascii=False) + "\n"
