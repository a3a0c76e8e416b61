"""`orch upgrade`: the running daemon becomes the code that is installed now."""

from __future__ import annotations

from orchestrator import __version__
from orchestrator.cli.session import Session
from orchestrator.errors import ExitCode


def upgrade(session: Session) -> int:
    """Replace the daemon's code in place; what it supervises does not notice.

    Code that does not start is refused by the daemon, which goes on as it was.
    """
    told = session.connect().upgrade()
    if session.options.json:
        session.screen.json(told)
        return ExitCode.DONE
    note = session.screen.note
    note(
        f"orch: upgraded from {told['before']} to {told['now']}: the daemon is pid {told['pid']} "
        f"as before, {told['instances']} instances were kept"
    )
    if not told["keeper_is_current"]:
        note(
            f"orch: the keeper, pid {told['keeper_pid']}, goes on with the code it was started "
            "with: its protocol does not change, and down and up renew it"
        )
    if told["now"] != __version__:
        note(
            f"orch: this command is of version {__version__}; the daemon runs by another "
            "installation, the one that it was started from"
        )
    return ExitCode.DONE
