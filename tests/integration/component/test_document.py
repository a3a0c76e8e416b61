"""The samples of service_framework's document, run by the command line that it describes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.component.conftest import PATIENCE, eventually

HERE = Path(__file__).parent / "document"
ROOT = Path(__file__).parents[3]


class Folder:
    """A folder with the samples, their addresses and configurations, and programs run there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started: list[subprocess.Popen[bytes]] = []
        for file in HERE.glob("*.py"):
            shutil.copy(file, path)
        address = f"ipc://{path}/"
        data, whole = address + "{}.data", address + "{}.all"
        names = ("market_price", "order_book")
        self.write(
            "service_addresses.json",
            {
                "connections": {
                    "in": {"cancel_order": {"replyer": address + "cancel"}},
                    "out": {},
                },
                "states": {
                    "in": {
                        name: {"subscriber": data.format(name), "requester": whole.format(name)}
                        for name in names
                    },
                    "out": {},
                },
            },
        )
        self.write(
            "addresses.json",
            {
                "connections": {
                    "in": {},
                    "out": {"cancel_order": {"requester": address + "cancel"}},
                },
                "states": {
                    "in": {},
                    "out": {
                        name: {"publisher": data.format(name), "replyer": whole.format(name)}
                        for name in names
                    },
                },
            },
        )
        self.write(
            "service_config.json",
            {
                "required": {"symbol": "BTC"},
                "optional": {"config_property_2": ["list_item_1", "list_item_2"]},
            },
        )
        self.write(
            "config.json",
            {
                "required": {"config_property_1": 12345},
                "optional": {"config_property_4": "TestTestTest"},
            },
        )

    def write(self, name: str, value: object) -> None:
        (self.path / name).write_text(json.dumps(value))

    def run(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "orchestrator", "run", *arguments]
        with (self.path / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                argv,
                cwd=self.path,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        self.started.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.path / f"{name}.log").read_text()


STATES = (
    "'min_ask': '2.6'",
    "'max_bid': '2.4'",
    "'time_ask': '2026-01-02 03:04:05+00:00'",
    "asks {Decimal('2.6'): Decimal('7')}",
    "bids {Decimal('2.4'): Decimal('3')}",
)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    found = Folder(tmp_path_factory.mktemp("d"))
    yield found
    for process in found.started:
        process.kill()
        process.wait()


def test_the_samples_of_the_document_run(folder: Folder) -> None:
    service = folder.run(
        "service", "-s", "./service.py", "-a", "./service_addresses.json",
        "-c", "./service_config.json", "-cl", "DEBUG", "--random_variable", "HELLO",
    )  # fmt: skip
    edge = folder.run(
        "edge", "-m", "-s", "./leading_edge.py", "-a", "./addresses.json", "-c", "./config.json"
    )

    def seen() -> bool:
        assert (service.poll(), edge.poll()) == (None, None), folder.log("service")
        said = folder.log("service")
        return all(part in said for part in STATES)

    eventually(seen)
    said = folder.log("service")
    assert "addresses for BTC" in said
    assert "cancelled order-0 on coinbase" in said
    for part in (
        "'symbol': 'BTC'",
        "'argument_1': 'first_argument'",
        "'argument_2': 'the_second_argument'",
        "'config_property_2': ['list_item_1', 'list_item_2']",
        "'random_variable': 'HELLO'",
    ):
        assert part in said
    edge.send_signal(signal.SIGTERM)
    assert edge.wait(PATIENCE) == 0
    service.send_signal(signal.SIGINT)
    assert service.wait(PATIENCE) == 0
    assert "and told at 2" in folder.log("service")
    assert "interrupted by 2 with 2 states" in folder.log("service")


@pytest.mark.parametrize(
    ("more", "config", "said"),
    [
        (["--odd"], {"symbol": "BTC"}, "--odd"),
        ([], {}, "'symbol' is missing: expected str"),
        ([], {"symbol": 5}, "'symbol': expected str, got int 5"),
        ([], {"symbol": "BTC", "zzz": 5}, "'zzz' is not declared"),
        (["-m"], {"symbol": "BTC"}, "mode main needs a function main"),
        (["-cl", "LOUD"], {"symbol": "BTC"}, "LOUD"),
    ],
)
def test_a_service_that_cannot_start_says_why(
    folder: Folder, more: list[str], config: dict[str, object], said: str
) -> None:
    folder.write("service_config.json", config)
    addresses = ["-a", "./service_addresses.json", "-c", "./service_config.json"]
    service = folder.run("service", "-s", "./service.py", *addresses, *more)
    assert service.wait(PATIENCE) in (1, 2)
    assert said in folder.log("service")
    assert "Traceback" not in folder.log("service")
