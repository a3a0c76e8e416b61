"""The steps of a component's life, in its caller's process."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestrator.component import (
    Component,
    ComponentError,
    ConfField,
    ConfigurationManager,
    SetupError,
    exits,
    workflow,
)


class _Manager(ConfigurationManager):
    LOGGING = ConfField(None)
    size = ConfField(1)


class _Steps(Component):
    """Counts its steps; `fails` says how often set-up fails first."""

    def __init__(self, fails: int = 0, conf: dict[str, Any] | None = None) -> None:
        manager = _Manager("component")
        manager.to_conf().from_dict(conf or {})
        super().__init__("shop", "api", [manager])
        self.fails = fails
        self.calls: list[str] = []

    def configure_logging(self) -> Any:
        self.calls.append("setup")
        if self.fails:
            self.fails -= 1
            raise RuntimeError("not yet")
        return super().configure_logging()

    def initialize(self) -> None:
        self.calls.append("initialize")

    def run(self) -> object:
        self.calls.append("run")
        with pytest.raises(ComponentError, match="it runs already"):
            self.start()
        return 7


def test_each_step_is_done_once_and_run_each_time() -> None:
    component = _Steps()
    component.setup()
    assert component.initialize_once()
    assert not component.initialize_once()
    assert component.start() == 7
    assert component.start() == 7
    assert component.calls == ["setup", "initialize", "run", "run"]


def test_a_failed_step_is_not_done() -> None:
    component = _Steps(fails=1)
    with pytest.raises(RuntimeError, match="not yet"):
        component.start()
    assert not component.is_done("setup")
    component.start()
    assert component.calls == ["setup", "setup", "run"]


def test_logging_is_set_up_by_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    told = {
        "version": 1,
        "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
        "loggers": {"shop.test": {"handlers": ["out"], "level": "INFO", "propagate": False}},
    }
    before = logging.getLogger("shop.before")
    _Steps(conf={"LOGGING": told}).setup()
    logging.getLogger("shop.test").info("heard")
    assert capsys.readouterr().out == "heard\n"
    assert not before.disabled


def test_logging_that_cannot_be_is_told_with_its_reason() -> None:
    component = _Steps(conf={"LOGGING": {"version": 1, "handlers": {"x": {"class": "no.such"}}}})
    with pytest.raises(SetupError, match=r"logging of shop.api: .*'x'.*No module named 'no'"):
        component.setup()


def test_a_component_that_is_configured_keeps_its_name(tmp_path: Path) -> None:
    component = _Steps()
    component.change_name("other", "store")
    assert component.full_name == "store.other"
    component.standard_configure(tmp_path, build=False)
    component.change_name("other", "store")
    with pytest.raises(ComponentError, match=r"cannot rename store.other: it is configured"):
        component.change_name("third")


def test_what_is_in_no_module_cannot_be_built(tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match="no module that can be imported has it as COMPONENT"):
        _Steps().standard_configure(tmp_path)


def test_only_configurations_are_taken() -> None:
    with pytest.raises(SetupError, match=r"the configuration of shop.api is a dict"):
        Component("shop", "api", [{}])


@pytest.mark.parametrize("value", [None, 5, "text", object(), int, Component, Component("a", "b")])
def test_what_cannot_run_is_no_component(value: object) -> None:
    mistake = workflow.mistake_in(value)
    assert mistake.startswith("COMPONENT is ")
    with pytest.raises(SetupError, match="COMPONENT is "):
        workflow.as_component(value, "shop", "api")


def test_a_function_is_called_with_the_configuration_if_it_wants_it() -> None:
    manager = _Manager("component")
    for function in (lambda: "none", lambda conf: conf.size, lambda conf=3: conf):
        component = workflow.as_component(function, "shop", "api")
        component.add_conf(manager)
        component.start()
    taken = workflow.as_component(lambda conf: conf.size, "shop", "api")
    taken.add_conf(manager)
    assert taken.start() == 1


def test_an_async_run_is_awaited() -> None:
    async def main() -> str:
        return "awaited"

    assert workflow.as_component(main, "shop", "api").start() == "awaited"


def test_registered_children_are_ended_and_what_is_none_is_refused() -> None:
    child = subprocess.Popen(["sleep", "1000"])
    words = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    stubborn = subprocess.Popen(["sh", "-c", words], stdout=subprocess.PIPE)
    assert stubborn.stdout is not None
    assert stubborn.stdout.readline() == b"ready\n"
    component = _Steps()
    with pytest.raises(TypeError, match="cannot look after a int"):
        component.register_child_for_cleanup(5)
    patience, exits.PATIENCE = exits.PATIENCE, 0.2
    try:
        component.register_child_for_cleanup(child)
        component.register_child_for_cleanup(stubborn)
        exits.end_children()
    finally:
        exits.PATIENCE = patience
        stubborn.stdout.close()
    assert (child.returncode, stubborn.returncode) == (-15, -9)
