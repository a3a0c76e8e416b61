"""`python -m orchestrator` is the command `orch`."""

from __future__ import annotations

import sys

from orchestrator import cli

sys.exit(cli.main())
