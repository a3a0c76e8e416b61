"""Laws are searched the same way each time; `HYPOTHESIS_PROFILE=explore` searches anew."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "orch",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.register_profile(
    "explore",
    settings.get_profile("orch"),
    derandomize=False,
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "3000")),
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "orch"))
