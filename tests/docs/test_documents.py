"""What the documents promise is typed into a shell; what they could have generated is compared."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.scenario import PATIENCE, Scenario, eventually

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("t*/**/*.md")]
    if not {".venv", ".orch", "node_modules"} & set(path.parts)
)
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LOOKS = re.compile(r"orch (-f \S+ )?(ps|logs|runs)\b")
LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]*)(?:#([^)\s]+))?\)")


def test_generated_pages_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor and file.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
            assert anchor in slugs, f"{page.name}: {target}#{anchor}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100


def test_the_readme_shows_the_shipped_hello() -> None:
    blocks = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    shown = [body for language, _, body in blocks if language == "yaml"]
    assert (ROOT / "topologies" / "hello.yaml").read_text(encoding="utf-8") in shown


def test_every_target_the_readme_names_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake ([a-z-]+)", text))
    assert {"demo", "check"} <= named
    assert not [name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)]


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/tutorial/first-system.md",
        "docs/tutorial/states.md",
        "docs/tutorial/jobs.md",
        "docs/reference/connections.md",
        "docs/how-to/limits.md",
        "docs/how-to/queues.md",
        "docs/how-to/configuration.md",
        "docs/how-to/packages.md",
        "docs/how-to/callbacks.md",
        "docs/how-to/service-classes.md",
    ],
)
def test_what_a_page_says_happens_when_typed(page: str, scenario: Scenario) -> None:
    type_page(page, scenario)


def type_page(page: str, scenario: Scenario) -> None:
    """Write the files of a page and type its commands; what it shows comes, `…` is anything."""
    text = (ROOT / page).read_text(encoding="utf-8")
    scenario.copy(ROOT / "topologies")
    typed = 0
    for language, name, body in BLOCK.findall(text):
        if name:
            path = scenario.root / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(body, encoding="utf-8")
        elif language == "console":
            for command, shown in sessions(body):
                if re.match(r"(git|pip|make|cd) ", command):
                    continue
                type_command(command, shown, scenario)
                typed += 1
    assert typed
    if scenario.topology.exists():
        eventually(lambda: scenario.run("down").code == 0)


def type_command(command: str, shown: str, scenario: Scenario) -> None:
    """Type a command until what is shown comes; `^C` as the last line ends what would go on."""
    if shown.endswith("^C\n"):
        begun = scenario.start(command=["/bin/sh", "-c", command])
        wanted = shown.removesuffix("^C\n")
        eventually(lambda: matches(wanted, begun.out + begun.err), saying=f"{command}: {wanted}")
        begun.interrupt()
        begun.wait()
        return
    # Who looks too early looks again.
    deadline = time.monotonic() + (PATIENCE if LOOKS.match(command) else 0)
    while True:
        done = scenario.command(["/bin/sh", "-c", command], limit=60)
        assert done.code == 0, str(done)
        if matches(shown, done.text) or time.monotonic() > deadline:
            break
    scenario.transcript.append(str(done))
    assert matches(shown, done.text), f"{shown}\n--- is not what comes ---\n{done}"


def sessions(body: str) -> list[tuple[str, str]]:
    """Split a console block into commands and what is shown after each."""
    found = []
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE):
        command, _, shown = part.partition("\n")
        if command:
            found.append((command.split("  #")[0].strip(), shown))
    return found


def matches(shown: str, text: str) -> bool:
    """Tell whether each shown line comes, in any order; blanks are alike, `…` is anything."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for line in shown.splitlines():
        words = " ".join(line.split())
        pattern = ".*".join(map(re.escape, words.split("…")))
        if words.strip("…") and not any(re.fullmatch(pattern, each) for each in lines):
            return False
    return True


def test_the_page_about_tests_shows_tests_that_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "topologies")
    text = (ROOT / "docs" / "how-to" / "testing.md").read_text(encoding="utf-8")
    passed = 0
    for language, _, body in BLOCK.findall(text):
        if language == "python":
            namespace: dict[str, object] = {}
            exec(compile(body, "testing.md", "exec"), namespace)
            for name, function in namespace.items():
                if name.startswith("test_") and callable(function):
                    function()
                    passed += 1
    assert passed


def test_what_the_page_about_reload_types_works_on_the_exchange(scenario: Scenario) -> None:
    text = (ROOT / "docs" / "how-to" / "reload.md").read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    scenario.copy(ROOT / "topologies" / "exchange")
    scenario.copy(ROOT / "topologies" / "exchange.yaml").rename(scenario.topology)
    up = scenario.run("up", "-d", "--wait", "market.engine", limit=60)
    assert up.code == 0, up
    pid = scenario.row("market.engine")["pid"]
    engine = scenario.root / "exchange" / "engine.py"
    typed = 0
    for language, _, body in blocks:
        if language == "console":
            for command, _ in sessions(body):
                engine.write_text(engine.read_text(encoding="utf-8") + "\n", encoding="utf-8")
                done = scenario.command(["/bin/sh", "-c", command], limit=60)
                assert done.code == 0, str(done)
                typed += 1
    assert typed
    assert scenario.row("market.engine")["pid"] == pid
    # The hooks are as the page has them, around what it does not show.
    hooks = "".join(body for language, _, body in blocks if language == "python")
    around = "book = {}\n\n\nclass poller:\n    stop = staticmethod(lambda: None)\n\n\n"
    code = engine.read_text(encoding="utf-8")
    engine.write_text(f"{code}\n\n{around}{hooks}", encoding="utf-8")
    first = scenario.run("reload", "market.engine")
    assert first.code == 1, "the module before has no book"
    assert "on_load failed" in first.text
    engine.write_text(f"{code}\n\n{around}", encoding="utf-8")
    assert scenario.run("reload", "market.engine").code == 0
    engine.write_text(f"{code}\n\n{around}{hooks}", encoding="utf-8")
    assert scenario.run("reload", "market.engine").code == 0
    assert scenario.row("market.engine")["pid"] == pid
