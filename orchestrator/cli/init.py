"""`orch init`: what a system needs before its first start."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator import files
from orchestrator.cli.session import Session
from orchestrator.errors import ExitCode, OrchestratorError, UsageError
from orchestrator.model import names
from orchestrator.wire import keys as curve
from orchestrator.wire.keys import Keys


def init(session: Session, *, keys: bool, name: str | None) -> int:
    """Make a key pair for CURVE: `keys/NAME.key`, which is secret, and `keys/NAME.pub`."""
    if not keys:
        raise UsageError("cannot tell what to make: say --keys")
    chosen = name or Path.cwd().name
    if not names.is_name(chosen):
        raise UsageError(
            f"cannot name keys {chosen!r}: use lower-case letters, digits and hyphens"
        )
    import zmq  # noqa: PLC0415  # 20 ms, which no other verb need pay

    directory = Path("keys")
    secret, public = directory / f"{chosen}.key", directory / f"{chosen}.pub"
    for path in (secret, public):
        if path.exists():
            raise OrchestratorError(
                f"cannot write {path}: it is there already; keys are not replaced"
            )
    made = Keys(*(key.decode() for key in zmq.curve_keypair()))
    directory.mkdir(exist_ok=True, mode=0o700)
    files.write_atomic(secret, curve.write(made).encode(), 0o600)
    files.write_atomic(public, curve.write(Keys(made.public)).encode(), 0o644)
    session.screen.note(f"orch: {secret} is secret; give {public} to those who connect with you")
    session.screen.data(f"curve: {{key: {os.fspath(secret)}}}")
    return ExitCode.DONE
