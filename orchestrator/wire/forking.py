"""What the daemon and its zygote must agree on; how they talk stands in `orchestrator.zygote`."""

from __future__ import annotations

FORMAT = 1
"""The language of orders and reports. A zygote of another one ends at once."""

LONGEST = 128 * 1024
"""The longest order, in bytes: what fits into a socket's buffer without waiting."""

MOST = 64
"""The largest number of descriptors passed to a component by a zygote."""

GO = b"g"
"""Tells a child that has done its set-up that it may run."""
