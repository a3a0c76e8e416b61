"""`python -m orchestrator.daemon`, as the keeper starts it."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

# The default, every 700 objects, takes a tenth of the time of our imports and a quarter of that
# of a large start; what the daemon makes has no cycles to speak of.
gc.set_threshold(200_000, 10, 10)

from orchestrator.spared import without  # noqa: E402

# asyncio and msgspec, which take a tenth of the daemon's start to import these.
with without("ssl", "typing_extensions"):
    from orchestrator.daemon import main, upgrade

match sys.argv[1:]:
    case [upgrade.CHECK, journal]:
        print(upgrade.check(Path(journal)))  # noqa: T201 - its answer
        sys.exit(0)
    case [upgrade.RESUME, number, *_]:
        sys.exit(main.resume(int(number)))
    case _:
        sys.exit(main.main(int(sys.argv[1])))
