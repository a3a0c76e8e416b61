"""`python -m orchestrator.daemon`, as the keeper starts it."""

from __future__ import annotations

import sys

from orchestrator.daemon import main

sys.exit(main.main(int(sys.argv[1])))
