"""`orch up` from its first moment: the keeper and the daemon load while the rest of us does.

Both are interpreters of their own, so on another core they cost no time. They wait, and touch
nothing, until the topology is known to be good; if it is not they end.
"""

from __future__ import annotations

from typing import Any

from orchestrator import keeping
from orchestrator.cli.session import Session
from orchestrator.spared import without

_ENDINGS = (".yaml", ".yml")


def up(session: Session, *, words: tuple[str, ...], plan: bool, **options: Any) -> int:
    """Bring the system up; see the table of commands for the options."""
    if words and words[0].endswith(_ENDINGS):
        session.choose(words[0])
        words = words[1:]
    if plan or session.try_connect() is not None:
        return _up(session, words=words, plan=plan, **options)
    with keeping.KeeperStart(session.runtime_dir) as early:
        return _up(session, words=words, plan=plan, early=early, **options)


def _up(session: Session, **options: Any) -> int:
    # msgspec, which without it takes a third of the time to import.
    with without("typing_extensions"):
        from orchestrator.cli import up as rest  # noqa: PLC0415 - it loads beside the daemon

    return rest.up(session, **options)
