"""What users install: the wheel has all it needs where nobody has seen the sources."""

import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(argv: Sequence[str | Path], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and show what it said when it fails."""
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, argv))}\n{done.stdout}{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the build back end itself."""
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], ROOT)
    [path] = folder.glob("orch-*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_the_schemas(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    schemas = {f"orchestrator/schemas/{path.name}" for path in (ROOT / "schemas").glob("*.json")}
    assert schemas
    assert schemas <= set(names)
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "orchestrator").rglob("*.py")}
    assert sources <= set(names)
    assert not [name for name in names if name.startswith(("tests", "topologies", "docs"))]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_installed_orch_validates_the_shipped_topologies(wheel: Path, tmp_path: Path) -> None:
    """A clean environment, with nothing but what the wheel asks for, far from the sources."""
    run([sys.executable, "-m", "venv", tmp_path / "venv"], tmp_path)
    pip: list[str | Path] = [
        tmp_path / "venv/bin/python",
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--quiet",
    ]
    run([*pip, "install", wheel], tmp_path)
    orch = tmp_path / "venv/bin/orch"
    assert "0." in run([orch, "version"], tmp_path).stdout
    topologies = sorted((ROOT / "topologies").glob("*.yaml"))
    assert topologies
    run([orch, "validate", "--no-import", *topologies], tmp_path)
    # The platform's code needs what no other does: Redis, Django, a mail server.
    plain = [each for each in topologies if each.stem != "platform"]
    run([orch, "validate", *plain], tmp_path)
