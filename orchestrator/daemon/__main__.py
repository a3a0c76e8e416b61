"""`python -m orchestrator.daemon`, as the keeper starts it."""

from __future__ import annotations

import sys
from pathlib import Path

from orchestrator.daemon import main, upgrade

match sys.argv[1:]:
    case [upgrade.CHECK, journal]:
        print(upgrade.check(Path(journal)))  # noqa: T201 - its answer
        sys.exit(0)
    case [upgrade.RESUME, number, *_]:
        sys.exit(main.resume(int(number)))
    case _:
        sys.exit(main.main(int(sys.argv[1])))
