"""Generations of a handler's modules: old and new side by side, one of them at the end."""

from __future__ import annotations

import gc
import importlib
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.component.errors import CannotSwap, SetupError
from orchestrator.component.loader import Code


@pytest.fixture(autouse=True)
def imports_forgotten() -> Iterator[None]:
    path, finders, modules = list(sys.path), list(sys.meta_path), set(sys.modules)
    yield
    sys.path[:], sys.meta_path[:] = path, finders
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def package(root: Path, value: int) -> Path:
    """Write a package of four modules that find each other in each of the ways there are."""
    write(root / "__init__.py", "from .inner import VALUE, total\nfrom . import sub\n")
    write(root / "inner.py", f"import {root.name}.deep as deep\nVALUE = {value}\n\ndef total():\n"
          "    from .sub import PLUS\n    return VALUE + PLUS + deep.MORE\n")  # fmt: skip
    write(root / "sub" / "__init__.py", f"from ..deep import MORE\nPLUS = {value}\n")
    write(root / "deep.py", f"MORE = {value}\n")
    return root


def renew(code: Code) -> ModuleType:
    renewal = code.renew()
    renewal.commit()
    return renewal.module


@pytest.mark.parametrize("bytecode", [True, False])
def test_a_package_of_many_modules_is_exchanged_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, bytecode: bool
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", not bytecode)
    root = package(tmp_path / "whole", 1)
    code = Code(str(root))
    old = code.module
    for value in range(2, 6):
        package(root, value)
        new = renew(code)
        assert new.total() == 3 * value
        assert old.VALUE == 1
    assert code.generation == 5
    assert sys.modules["whole.sub"] is code.module.sub


def test_nothing_of_an_old_generation_is_left(tmp_path: Path) -> None:
    root = package(tmp_path / "gone", 1)
    code = Code(str(root))
    finders = len(sys.meta_path)
    refs = []
    for value in range(2, 60):
        refs.append(weakref.ref(sys.modules["gone.inner"]))
        write(root / "deep.py", f"MORE = {value}\n")
        renew(code)
    gc.collect()
    assert not [ref for ref in refs if ref() is not None]
    assert len(sys.meta_path) == finders


def test_a_generation_taken_back_was_never_there(tmp_path: Path) -> None:
    root = package(tmp_path / "back", 1)
    code = Code(str(root))
    before = dict(sys.modules)
    package(root, 2)
    renewal = code.renew()
    assert renewal.module.total() == 6
    renewal.undo()
    assert {name: m for name, m in sys.modules.items() if name.startswith("back")} == {
        name: m for name, m in before.items() if name.startswith("back")
    }
    assert code.module.total() == 3
    assert code.generation == 1


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("deep.py", "MORE = (\n", r"deep\.py:1: .*SyntaxError"),
        ("unused.py", "def f(:\n", r"unused\.py:1: .*SyntaxError"),
        ("deep.py", "import nothing_like_it\n", r"deep\.py:1: .*ModuleNotFoundError"),
        ("deep.py", "MORE = 1 / 0\n", r"deep\.py:1: .*ZeroDivisionError"),
        ("sub/__init__.py", "", r"inner\.py|ImportError|total"),
    ],
)
def test_a_broken_generation_names_its_place_and_leaves_the_old_one(
    tmp_path: Path, file: str, text: str, said: str
) -> None:
    root = package(tmp_path / "broken", 1)
    code = Code(str(root))
    write(root / file, text)
    if text:
        with pytest.raises(SetupError, match=said):
            code.renew()
    assert code.module.total() == 3
    assert sys.modules["broken"] is code.module
    package(root, 2)
    write(root / "unused.py", "")
    assert renew(code).total() == 6


def test_a_deleted_module_is_missed(tmp_path: Path) -> None:
    root = package(tmp_path / "less", 1)
    code = Code(str(root))
    (root / "deep.py").unlink()
    with pytest.raises(SetupError, match="deep"):
        code.renew()
    write(root / "sub" / "__init__.py", "PLUS = 2\n")
    write(root / "inner.py", "VALUE = 2\n\ndef total():\n    return VALUE\n")
    assert renew(code).total() == 2
    assert "less.deep" not in sys.modules


def test_a_file_is_exchanged_with_its_neighbours_alone(tmp_path: Path) -> None:
    write(tmp_path / "here" / "beside_it.py", "VALUE = 1\n")
    write(tmp_path / "lib" / "far_from_it.py", "VALUE = 1\n")
    path = write(tmp_path / "here" / "one.py", "import beside_it, far_from_it\n")
    code = Code(str(path), (str(tmp_path / "lib"),))
    write(tmp_path / "here" / "beside_it.py", "VALUE = 2\n")
    assert renew(code).beside_it.VALUE == 2
    write(tmp_path / "lib" / "far_from_it.py", "VALUE = 33\n")
    with pytest.raises(CannotSwap, match=r"far_from_it\.py has changed"):
        code.renew()


def test_a_module_within_a_package_leaves_the_package_around_it(tmp_path: Path) -> None:
    write(tmp_path / "market" / "__init__.py", "COUNT = []\n")
    write(tmp_path / "market" / "handlers" / "__init__.py", "")
    write(tmp_path / "market" / "handlers" / "engine.py", "VALUE = 1\n")
    code = Code("market.handlers.engine", (str(tmp_path),))
    around = importlib.import_module("market")
    write(tmp_path / "market" / "handlers" / "engine.py", "VALUE = 2\n")
    assert renew(code).VALUE == 2
    assert importlib.import_module("market") is around
    assert around.handlers.engine.VALUE == 2
    write(tmp_path / "market" / "handlers" / "engine.py", "VALUE =\n")
    with pytest.raises(SetupError, match=r"engine\.py:1"):
        code.renew()
    assert around.handlers.engine.VALUE == 2


def test_a_link_that_leads_elsewhere_is_followed(tmp_path: Path) -> None:
    package(tmp_path / "releases" / "1" / "linked", 1)
    package(tmp_path / "releases" / "2" / "linked", 2)
    current = tmp_path / "current"
    current.symlink_to(tmp_path / "releases" / "1")
    code = Code(str(current / "linked"))
    (tmp_path / "next").symlink_to(tmp_path / "releases" / "2")
    (tmp_path / "next").rename(current)
    assert renew(code).total() == 6
    assert str(tmp_path / "releases" / "1") not in sys.path


@settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(st.sampled_from(["good", "syntax", "raises", "undo"]), max_size=12))
def test_what_serves_is_always_the_last_good_one(tmp_path: Path, steps: list[str]) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "walk"]:
        del sys.modules[name]
    root = package(tmp_path / "walk", 0)
    code = Code(str(root))
    served = 0
    for number, step in enumerate(steps, start=1):
        package(root, number)
        if step in ("syntax", "raises"):
            write(root / "deep.py", "MORE =\n" if step == "syntax" else "raise OSError\n")
            with pytest.raises(SetupError):
                code.renew()
        elif step == "undo":
            code.renew().undo()
        else:
            renew(code)
            served = number
        assert code.module.total() == 3 * served
        assert sys.modules["walk"] is code.module
