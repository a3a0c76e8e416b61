"""What is wrong is told clearly, with the right exit code; nothing is left half started."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.scenario import (
    ORCH,
    Scenario,
    bad,
    exits,
    no_traceback,
    nothing_runs,
    orch,
    row,
    says,
    silent_about,
)

POSITION = r"topology\.yaml:\d+:\d+: error ORC\d+: "


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ("version: 1\nname: [world\n", [POSITION]),
        ("version: 1\nname: world\n\tservices: {}\n", [POSITION]),
        ("", [POSITION]),
        ("just a sentence\n", [POSITION]),
        ("version: 1\nname: world\nname: twice\n", [POSITION + ".*name"]),
        (
            "version: 1\nname: world\nservises: {}\n",
            [POSITION + ".*servises", "did you mean '?services"],
        ),
        ("version: 7\nname: world\n", [POSITION + ".*7"]),
        ("version: 1\nname: Not A Name\n", [POSITION + ".*Not A Name"]),
        (
            "version: 1\nname: world\naddresses: {a: 'tcp://127.0.0.1:notaport'}\n",
            [POSITION + ".*notaport"],
        ),
        (
            "version: 1\nname: world\naddresses: {a: 'carrier-pigeon://home'}\n",
            [POSITION + ".*carrier-pigeon"],
        ),
        (
            "version: 1\nname: world\naddresses: {a: 'tcp://127.0.0.1:70000'}\n",
            [POSITION + ".*70000"],
        ),
        ("version: 1\nname: world\nservices: {a: {command: 'true', handler: b.py}}\n", [POSITION]),
        (
            "version: 1\nname: world\nservices: {a: {command: 'echo ${nothing}'}}\n",
            [POSITION + ".*nothing"],
        ),
        ("version: 1\nname: world\ninclude: [missing.yaml]\n", [POSITION + ".*missing.yaml"]),
        (
            "version: 1\nname: world\nservices: {a: {handler: missing.py}}\n",
            [r"topology\.yaml:3.*missing\.py"],
        ),
    ],
)
@pytest.mark.parametrize("verb", ["validate", "up"])
def test_a_bad_topology_is_refused_with_its_places(
    scenario: Scenario, text: str, patterns: list[str], verb: str
) -> None:
    scenario.write(text)
    outcome = scenario.step(
        "refused", orch(verb).within(30), exits(1), says(*patterns), nothing_runs
    )
    no_traceback(scenario, outcome)
    assert not (scenario.base / "conf").exists(), "nothing was built"


def test_a_topology_that_is_not_text_is_refused(scenario: Scenario) -> None:
    scenario.topology.write_bytes(b"\xff\xfe\x00name")
    outcome = scenario.step("refused", orch("validate"), exits(1), says("topology.yaml"))
    no_traceback(scenario, outcome)


def test_a_missing_topology_is_named(scenario: Scenario) -> None:
    outcome = scenario.step(
        "none at all", orch("up"), says("cannot", r"topology\.yaml"), nothing_runs
    )
    assert outcome.code in (1, 2)
    no_traceback(scenario, outcome)
    outcome = scenario.step(
        "not this one", orch("-f", "elsewhere.yaml", "up"), says("cannot", r"elsewhere\.yaml")
    )
    assert outcome.code in (1, 2)
    no_traceback(scenario, outcome)


@pytest.mark.parametrize(
    "argv",
    [["upp"], ["up", "--wiat"], ["logs", "-n", "many"], ["kill", "-s", "NOISE", "web"], ["-f"]],
)
def test_a_wrong_command_line_is_a_usage_error(scenario: Scenario, argv: list[str]) -> None:
    scenario.services({"web": {"command": bad()}})
    outcome = scenario.step("refused", orch(*argv), exits(2), nothing_runs)
    assert outcome.err
    assert not outcome.out
    no_traceback(scenario, outcome)


def test_an_unknown_name_is_told_and_nothing_is_done_to_the_others(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad()}, "cache": {"command": bad()}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    before = scenario.ps()
    for verb in ("stop", "restart", "start"):
        scenario.step(
            verb, orch(verb, "web", "cahce"), exits(1), says("cahce", "did you mean '?cache")
        )
    scenario.step("kill", orch("kill", "-s", "TERM", "web", "cahce"), exits(1), says("cahce"))
    assert scenario.ps() == before
    assert scenario.run("status", "cahce").code == 4
    scenario.step("stop it", orch("stop", "cache"), exits(0))
    assert scenario.run("status", "cache").code == 3


def test_without_a_daemon_every_verb_says_how_to_start_one(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad()}})
    for argv in (
        ["ps"],
        ["stop", "web"],
        ["restart", "web"],
        ["kill", "-s", "HUP", "web"],
        ["start", "web"],
    ):
        outcome = scenario.step(argv[0], orch(*argv), exits(69), says("orch up"))
        no_traceback(scenario, outcome)


def test_down_when_nothing_is_up_is_done_already(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad()}})
    scenario.step("nothing to do", orch("down"), exits(0), nothing_runs)


def test_a_port_in_use_is_told_and_the_others_are_not_left_behind(scenario: Scenario) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        scenario.write(
            f"""\
            version: 1
            name: world
            addresses: {{asks: tcp://127.0.0.1:{port}}}
            defaults: {{limit: {{failures: 2}}, backoff: {{initial: 10ms}}}}
            services:
              web: {{handler: web.py, connections: {{in: {{ask: asks}}}}}}
              asker: {{handler: asker.py, mode: main,
                      depends_on: [web], connections: {{out: {{ask: asks}}}}}}
            """
        )
        scenario.write(
            """\
            def on_ask(args, to_send, states, config):
                return {}

            connection_models = {"in": {"ask": {
                "connection_type": "replyer",
                "required_creation_arguments": {"on_new_request": on_ask},
            }}}
            """,
            "web.py",
        )
        scenario.write(
            """\
            def main(to_send, config):
                to_send("connection", "ask", {})

            connection_models = {"out": {"ask": {"connection_type": "requester"}}}
            """,
            "asker.py",
        )
        outcome = scenario.step(
            "up fails", orch("up", "--wait-timeout", "10s").within(20), says(str(port), "in use")
        )
        assert outcome.code in (1, 10)
        no_traceback(scenario, outcome)


def test_ctrl_c_ends_an_import_that_would_not_end(scenario: Scenario) -> None:
    code = "from pathlib import Path\nPath('begun').touch()\nwhile True:\n    pass\n"
    scenario.write(code, "web.py")
    scenario.services({"web": {"handler": "web.py"}})
    validate = scenario.start("validate")
    scenario.until((scenario.root / "begun").exists)
    validate.interrupt()
    outcome = validate.wait()
    exits(130)(scenario, outcome)
    nothing_runs(scenario, outcome)


def test_a_failed_foreground_up_leaves_nothing_half_started(scenario: Scenario) -> None:
    scenario.services(
        {
            "web": {"command": ["./missing-program"], "depends_on": ["cache"]},
            "cache": {"command": bad()},
        }
    )
    outcome = scenario.step("up fails", orch("up", "--wait").within(20), says("missing-program"))
    assert outcome.code in (1, 10)
    nothing_runs(scenario, outcome)


@pytest.fixture
def small_disk(scenario: Scenario) -> Iterator[Path]:
    """A disk of 256 KiB in the world."""
    folder = scenario.base = scenario.root / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a small disk here")
    try:
        yield folder
    finally:
        scenario.run("down")
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_for_logs_stops_nobody(scenario: Scenario, small_disk: Path) -> None:
    """Components and daemon run on, and space helps again."""
    scenario.services({"loud": {"command": bad()}, "web": {"command": bad()}}, base_dir="disk")
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    for name in ("loud.loud", "web.web"):
        scenario.until_logged(name)
    filler = small_disk / "filler"
    room = os.statvfs(small_disk)
    filler.write_bytes(b"x" * (room.f_bavail * room.f_frsize))
    assert os.statvfs(small_disk).f_bavail == 0
    scenario.step("the daemon answers", orch("ps"), exits(0))
    outcome = scenario.step("a restart works or tells why", orch("restart", "web").within(20))
    no_traceback(scenario, outcome)
    if outcome.code:
        says("(?i)no space left|disk is full")(scenario, outcome)
        silent_about("internal error")(scenario, outcome)
    assert scenario.row("loud.loud")["phase"] == "running"
    filler.unlink()
    scenario.step(
        "with space again", orch("restart", "web"), exits(0), row("web.web", phase="running")
    )
    scenario.step("down works", orch("down"), exits(0), nothing_runs)


def test_a_full_disk_from_the_start_is_told(scenario: Scenario, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(b"x" * 262144)
    scenario.services({"web": {"command": bad()}}, base_dir="disk")
    outcome = scenario.step(
        "up fails",
        orch("up", "-d", "--wait").within(20),
        exits(1),
        says("cannot", "no space left on device"),
    )
    no_traceback(scenario, outcome)
    nothing_runs(scenario, outcome)


def fill(disk: Path, *, but: int = 0) -> Path:
    """Leave no room on a disk but so many bytes; return the file whose removal makes some."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    os.truncate(filler, filler.stat().st_size - but)
    room = os.statvfs(disk)
    assert room.f_bavail * room.f_frsize == but
    return filler


def test_a_daemon_that_dies_on_a_full_disk_is_followed_by_another(
    scenario: Scenario, small_disk: Path
) -> None:
    """It knows what the journal has, and writes the rest when there is room."""
    again = {"restart": "always", "backoff": {"initial": "50ms"}}
    scenario.services({"web": {"command": bad(), **again}}, base_dir="disk")
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    before, daemon = scenario.row("web.web"), scenario.daemon()["pid"]
    filler = fill(small_disk)
    # Nor is there room for a line in the last page of the log.
    log = small_disk / "logging" / "orch.log"
    with log.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b".")
    os.kill(daemon, signal.SIGKILL)
    scenario.until(lambda: scenario.ps() and scenario.daemon()["pid"] != daemon)
    assert scenario.row("web.web")["pid"] == before["pid"]
    os.kill(before["pid"], signal.SIGKILL)
    scenario.until_row("web.web", phase="running", generation=2)
    assert not (small_disk / "journal.damaged").exists()
    filler.unlink()
    scenario.step("with room again", orch("up", "-d", "--wait"), exits(0))
    daemon = scenario.daemon()["pid"]
    os.kill(daemon, signal.SIGKILL)
    scenario.until(lambda: scenario.ps() and scenario.daemon()["pid"] != daemon)
    assert scenario.row("web.web")["generation"] == 2


def test_an_up_on_a_full_disk_costs_no_journal(scenario: Scenario, small_disk: Path) -> None:
    scenario.services({"web": {"command": bad()}}, base_dir="disk")
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.step("it goes down", orch("down"), exits(0))
    filler = fill(small_disk, but=3 * 4096)  # Enough for the keeper, and not for SQLite.
    outcome = scenario.step(
        "it cannot come up",
        orch("up", "-d", "--wait").within(20),
        exits(69),
        says("cannot use the journal .*free some space"),
        nothing_runs,
    )
    no_traceback(scenario, outcome)
    assert not (small_disk / "journal.damaged").exists()
    filler.unlink()
    scenario.step("with room it can", orch("up", "-d", "--wait"), exits(0))
    assert scenario.row("web.web")["generation"] == 2


def test_an_unreadable_place_is_named(scenario: Scenario) -> None:
    """A file stands where a directory should be: not even the superuser can go on."""
    scenario.write("in the way", ".orch/logging")
    scenario.services({"web": {"command": bad()}})
    outcome = scenario.step(
        "up fails", orch("up", "-d", "--wait").within(20), exits(1), says("cannot", "logging")
    )
    no_traceback(scenario, outcome)


def test_an_unreadable_topology_is_named(scenario: Scenario) -> None:
    scenario.topology.mkdir()
    outcome = scenario.step("refused", orch("validate"), says("cannot", r"topology\.yaml"))
    assert outcome.code in (1, 2)
    no_traceback(scenario, outcome)


def test_an_unusable_runtime_directory_is_named(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad()}})
    scenario.environment["XDG_RUNTIME_DIR"] = str(scenario.write("in the way", "not-a-folder"))
    outcome = scenario.step(
        "up fails", orch("up", "-d").within(20), exits(1), says("cannot", "not-a-folder")
    )
    no_traceback(scenario, outcome)
    silent_about("Errno")(scenario, outcome)


def test_two_topologies_cannot_share_a_directory(scenario: Scenario) -> None:
    scenario.write(
        "import threading\n"
        "config_model = {'required': {'n': int}}\n"
        "def main(to_send, config):\n    threading.Event().wait()\n",
        "web.py",
    )
    scenario.services({"web": {"handler": "web.py", "mode": "main", "config": {"n": 1}}})
    scenario.step("one comes up", orch("up", "-d", "--wait"), exits(0))
    other = scenario.write(
        scenario.topology.read_text()
        .replace('"n": 1', '"n": 2')
        .replace('"version": 1', '"version": 1, "base_dir": ".orch"'),
        "other.yaml",
    )
    outcome = scenario.step(
        "the other does not",
        orch("-f", str(other), "up", "-d"),
        exits(1),
        says(r"another daemon \(pid \d+\)", "give another topology a base_dir of its own"),
    )
    no_traceback(scenario, outcome)
    assert len(list(scenario.runtime.glob("orch/*"))) == 1
    scenario.step("the first is as it was", orch("build", "--check"), exits(0))


def test_another_shell_finds_the_daemon_without_the_runtime_directory(scenario: Scenario) -> None:
    """As from cron or by su: the variable is not the same, the system is."""
    scenario.services({"web": {"command": bad()}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    pid = scenario.row("web.web")["pid"]
    before, other = scenario.environment["XDG_RUNTIME_DIR"], scenario.root / "other"
    other.mkdir()
    scenario.environment["XDG_RUNTIME_DIR"] = str(other)
    scenario.step("it is seen", orch("ps"), exits(0), says(str(pid)))
    scenario.step("an up keeps it", orch("up", "--plan"), exits(0), says("web.web +keep"))
    scenario.step("a down stops it", orch("down"), exits(0), nothing_runs)
    assert list(other.iterdir()) == []
    scenario.step("the next is of this shell", orch("up", "-d"), exits(0))
    assert (other / "orch").is_dir()
    scenario.environment["XDG_RUNTIME_DIR"] = before
    scenario.step("and seen by the first", orch("down"), exits(0), nothing_runs)


def test_a_folder_that_was_moved_can_still_be_brought_down(scenario: Scenario) -> None:
    folder = scenario.root / "shop"
    text = scenario.services({"web": {"command": bad()}}).read_text()
    scenario.write(text, "shop/topology.yaml")
    scenario.step("it comes up", orch("-f", "shop/topology.yaml", "up", "-d"), exits(0))
    moved = folder.rename(scenario.root / "moved") / "topology.yaml"
    scenario.step("it is seen", orch("-f", str(moved), "ps"), exits(0), says("web.web +running"))
    scenario.step(
        "an up would mix the two",
        orch("-f", str(moved), "up", "-d"),
        exits(1),
        says("shop/topology.yaml", f"orch -f {moved} down"),
    )
    scenario.step("a down stops it", orch("-f", str(moved), "down"), exits(0), nothing_runs)
    scenario.step("then it comes up here", orch("-f", str(moved), "up", "-d"), exits(0))
    scenario.step("and goes", orch("-f", str(moved), "down"), exits(0), nothing_runs)
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_import_that_never_ends_dies_with_who_asked(
    scenario: Scenario, number: signal.Signals
) -> None:
    mark = scenario.root / "imported"
    code = f"import pathlib, time\npathlib.Path({str(mark)!r}).touch()\ntime.sleep(1000)\n"
    scenario.write(code, "web.py")
    scenario.services({"web": {"handler": "web.py"}})
    validating = scenario.start("validate")
    scenario.until(mark.exists)
    os.kill(validating.process.pid, number)
    validating.wait()
    scenario.until(lambda: not scenario.processes())


def test_every_unknown_name_is_told(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad()}, "mail": {"command": bad()}})
    scenario.step("it comes up", orch("up", "-d"), exits(0))
    scenario.step(
        "two of three are wrong",
        orch("stop", "wep", "mail", "blog"),
        exits(1),
        says("unknown name 'wep'; did you mean .*'web'.*unknown name 'blog'"),
        row("mail.mail", phase="running"),
    )


def test_closed_outputs_are_nobodys_concern(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad()}})
    script = f"{ORCH} up -d <&- >&- 2>&- && {ORCH} ps >&- && {ORCH} ps 2>&- <&-"
    outcome = scenario.command(["sh", "-c", script])
    exits(0)(scenario, outcome)
    no_traceback(scenario, outcome)
    says("web.web +running")(scenario, outcome)
