"""Mishaps that come in bursts."""

from __future__ import annotations

import logging

import pytest

from orchestrator.component.bursts import Burst


def test_a_burst_is_logged_once_and_counted_whole(caplog: pytest.LogCaptureFixture) -> None:
    burst = Burst(logging.getLogger("x"), quiet=3600)
    for number in range(1000):
        burst.add("Dropped %d", number)
    assert burst.total == 1000
    assert caplog.messages == ["Dropped 0"]
    burst.close()
    assert caplog.messages[1:] == ["… and 999 more like the last one"]
    burst.close()
    assert len(caplog.messages) == 2


def test_the_next_line_says_how_many_were_only_counted(caplog: pytest.LogCaptureFixture) -> None:
    burst = Burst(logging.getLogger("x"), quiet=3600)
    burst.add("Dropped %d", 1)
    burst.add("Dropped %d", 2)
    burst._next = 0.0
    burst.add("Dropped %d", 3)
    assert caplog.messages == ["Dropped 1", "Dropped 3 (and 1 more like it before)"]
