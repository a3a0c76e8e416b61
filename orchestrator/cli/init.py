"""`orch init`: what a system needs before its first start, and what a service begins with."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator import files
from orchestrator.cli.session import Session
from orchestrator.errors import ExitCode, OrchestratorError, UsageError
from orchestrator.model import names
from orchestrator.wire import keys as curve
from orchestrator.wire.keys import Keys


def init(session: Session, *, words: tuple[str, ...], keys: bool, name: str | None) -> int:
    """Make a service, a component, or keys.

    The key pair for CURVE is `keys/NAME.key`, which is secret, and `keys/NAME.pub`.
    """
    if words:
        if len(words) != 2 or words[0] not in ("service", "component") or keys or name:
            raise UsageError("say service NAME, component SERVICE.NAME, or --keys")
        from orchestrator.cli import scaffold  # noqa: PLC0415  # keys need none of it

        return scaffold.make(session, *words)
    if not keys:
        raise UsageError("cannot tell what to make: say service NAME, component NAME or --keys")
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
