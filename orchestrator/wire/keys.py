"""Key files of CURVE, the encryption of ZeroMQ, as texts. No I/O, and no cryptography.

The format is that of ZeroMQ certificates, which pyzmq and CZMQ read and write too: keys are 40
characters of Z85. A public file holds one key and may be given away; a secret file holds both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_KEY = re.compile(r"[0-9A-Za-z.:+=^!/*?&<>()\[\]{}@%$#-]{40}")
_LINE = re.compile(
    r"\s*(?P<name>public-key|secret-key)\s*=\s*(?P<quote>[\"'])(?P<key>.*)(?P=quote)\s*"
)


@dataclass(frozen=True, slots=True)
class Keys:
    """A key pair in Z85; `secret` is empty when it is not known."""

    public: str
    secret: str = field(default="", repr=False)


def read(text: str) -> Keys:
    """Return the keys that the text of a key file holds.

    Raises:
        ValueError: It holds no public key, or something that is no key. Never says what it holds.
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        if not _KEY.fullmatch(match["key"]):
            raise ValueError(f"its {match['name']} is not 40 characters of Z85")
        found[match["name"]] = match["key"]
    if "public-key" not in found:
        raise ValueError("it holds no public-key")
    return Keys(found["public-key"], found.get("secret-key", ""))


def write(keys: Keys) -> str:
    """Return the text of a key file; without the secret key it is one that may be given away."""
    kind = "secret, keep it to yourself" if keys.secret else "public"
    lines = [f"# ZeroMQ CURVE certificate ({kind})", "metadata", "curve"]
    lines.append(f'    public-key = "{keys.public}"')
    if keys.secret:
        lines.append(f'    secret-key = "{keys.secret}"')
    return "\n".join(lines) + "\n"
