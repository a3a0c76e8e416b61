"""SHA-256 without what `hashlib` brings along."""

from __future__ import annotations

import contextlib
import importlib


def sha256(data: bytes) -> bytes:
    """Return the 32 bytes that `hashlib.sha256` makes of `data`, which loads OpenSSL for it.

    That is a tenth of the time of a short command; so `random` does the same.
    """
    for name in ("_sha2", "_sha256", "hashlib"):  # From 3.12 on, before, and anywhere.
        with contextlib.suppress(ImportError):
            digest: bytes = importlib.import_module(name).sha256(data).digest()
            return digest
    raise AssertionError("internal error: a Python without SHA-256")
