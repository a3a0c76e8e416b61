"""CURVE in a topology: which key files an address uses, and whether they can be used.

    curve: {key: keys/exchange.key, allow: [keys/partner.pub]}     # for the whole system
    addresses:
      orders: {address: "tcp://10.0.0.5:8001", curve: true}
      quotes: {address: "tcp://10.0.0.9:9000", external: true, curve: {server: keys/quotes.pub}}

Only paths are kept: no key enters a lock or a built file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.config.report import Place, Report
from orchestrator.config.source import Source
from orchestrator.model import topology
from orchestrator.wire import keys

_HELP = "`orch init --keys` makes a key pair"

Given = Mapping[str, Any]


def of_address(
    address: Source, asked: bool | Given, whole: tuple[Source, Given] | None, *, place: Place,
    found: Report,
) -> topology.Curve | None:  # fmt: skip
    """Return the keys of an address; None when it asks for none.

    Args:
        address: The file that declares it; paths count from there.
        asked: What the address says of it.
        whole: The file and the fields of the system's `curve`.
        place: Where the address is written.
        found: Where to report key files that cannot be used.
    """
    if asked is False:
        return None
    own: tuple[Source, Given] = (address, asked if isinstance(asked, dict) else {})
    layers = [own, *([whole] if whole else [])]
    key = next((_read(one, given, "key", found) for one, given in layers if "key" in given), None)
    if key is None:
        hint = f"write `curve: {{key: FILE}}`, here or for the whole system; {_HELP}"
        found.error("ORC314", "`curve` needs the file of a key", place, hint=hint)
        return None
    _check_secret(layers, key, found)
    server = _read(*own, "server", found) if "server" in own[1] else None
    allow = [
        _read(one, given["allow"], number, found)
        for one, given in layers
        for number in range(len(given.get("allow") or ()))
    ]
    return topology.Curve(key, server, tuple(allow))


def _read(source: Source, holder: Any, key: str | int, found: Report) -> str:
    """Return the absolute path of a key file; report one that cannot be used."""
    path = Path(os.path.normpath(source.directory / holder[key]))
    try:
        keys.read(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        message = f"cannot use the key file {holder[key]!r}: {reason}"
        found.error("ORC315", message, Place(source, holder, key), hint=_HELP)
    return str(path)


def _check_secret(layers: Iterable[tuple[Source, Given]], path: str, found: Report) -> None:
    source, given = next(one for one in layers if "key" in one[1])
    place = Place(source, given, "key")  # type: ignore[arg-type]  # raw fields are a dict
    try:
        text, mode = Path(path).read_text(encoding="utf-8"), Path(path).stat().st_mode
        secret = keys.read(text).secret
    except (OSError, ValueError):
        return  # which has been reported
    if not secret:
        hint = "name the file that ends in .key; the other one is for your partners"
        found.error("ORC315", f"{given['key']!r} holds no secret key", place, hint=hint)
    elif stat.S_IMODE(mode) & 0o077:
        message = f"others may read the secret key {given['key']!r}"
        found.error("ORC315", message, place, hint=f"chmod 600 {given['key']}")
