"""orch: a declarative, YAML-driven service orchestrator.

Importing this package imports nothing heavy; public names resolve lazily.
"""

from __future__ import annotations

__version__ = "0.1.0"
