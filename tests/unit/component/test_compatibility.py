"""Files for service_framework import from it; signal handlers that code adds."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator

import pytest

from orchestrator.component import add_sigint_handler, compatibility, get_logger, signals


@pytest.fixture
def without_the_original(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Before all others: as if nothing else were found.
    for name in [name for name in sys.modules if name.partition(".")[0] == "service_framework"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [compatibility.AliasFinder(), *sys.meta_path])
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "service_framework"]:
        del sys.modules[name]


@pytest.mark.usefixtures("without_the_original")
def test_its_names_are_ours_where_it_is_not_installed() -> None:
    logging_utils = importlib.import_module("service_framework.utils.logging_utils")
    assert logging_utils.get_logger is get_logger
    utils = importlib.import_module("service_framework.utils.utils")
    assert utils.add_sigint_handler is add_sigint_handler
    assert compatibility.AliasFinder().find_spec("service_framework.states") is None


def test_it_is_looked_for_last_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    before = len(sys.meta_path)
    compatibility.install()
    compatibility.install()
    assert len(sys.meta_path) <= before + 1
    assert isinstance(sys.meta_path[-1], compatibility.AliasFinder)


def test_added_signal_handlers_are_called_newest_first_whatever_one_raises(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(signals, "_added", [])
    called: list[object] = []
    add_sigint_handler(lambda *given: called.append(("first", *given)))
    add_sigint_handler(lambda *_: 1 / 0)
    add_sigint_handler(lambda *given: called.append(("last", *given)))
    with caplog.at_level(logging.ERROR):
        signals.tell(2, None)
    assert called == [("last", 2, None), ("first", 2, None)]
    assert "A signal handler failed" in caplog.text
