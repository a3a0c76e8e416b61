"""The pace of restarts: what crashes again and again must not melt the machine.

A token bucket for the whole system. Each restart of what is in a crash loop takes a token;
tokens come back at a steady rate. Backoff slows one component down, this all of them together:
a thousand that crash at once, or many with short delays. What had lived well and what somebody
asked for needs no token.
"""

from __future__ import annotations

from msgspec import Struct, structs

from orchestrator.model.units import Instant, Seconds
from orchestrator.supervision.lifecycle import Instance

STORED: Seconds = 5.0
"""The bucket holds what comes in this time: a few crashes at once are not delayed."""

SHORT: Seconds = 1.0
"""A shorter life is a crash loop, whatever the component calls a healthy life."""


_ROUNDING = 1e-6
"""Less than this of a token is missing only to floating point numbers."""


class Bucket(Struct, frozen=True):
    """Tokens for restarts: `rate` a second, 0 for no limit; `spent` were taken as of `at`."""

    rate: float
    spent: float = 0.0
    at: Instant = 0.0


def take(bucket: Bucket, now: Instant) -> Bucket | None:
    """Return the bucket without one token; None when it is empty."""
    if bucket.rate == 0:
        return bucket
    spent = max(0.0, bucket.spent - (now - bucket.at) * bucket.rate) + 1
    return Bucket(bucket.rate, spent, now) if spent <= _size(bucket) + _ROUNDING else None


def wait(bucket: Bucket, now: Instant) -> Seconds:
    """Return how long it takes until there is a token."""
    if bucket.rate == 0:
        return 0.0
    missing = bucket.spent + 1 - _size(bucket)
    return max(0.0, bucket.at + missing / bucket.rate - now)


def with_rate(bucket: Bucket, rate: float) -> Bucket:
    """Return the bucket with another rate, and what was spent of it."""
    return structs.replace(bucket, rate=rate)


def needs_token(instance: Instance) -> bool:
    """Tell whether the start that `instance` waits for is one in a crash loop."""
    if instance.failures == 0:
        return False
    return instance.attempt > 0 or instance.lived < SHORT


def _size(bucket: Bucket) -> float:
    return max(1.0, bucket.rate * STORED)
