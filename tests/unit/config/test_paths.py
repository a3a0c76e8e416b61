"""Where the directories of a system are."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from orchestrator.config import paths


@pytest.mark.parametrize("project", [None, "blue"])
def test_a_key_is_the_beginning_of_a_sha_256_whoever_computes_it(
    project: str | None, tmp_path: Path
) -> None:
    topology = tmp_path / "topology.yaml"
    name = os.fsencode(os.path.realpath(topology)) + b"\0" + (project or "").encode()
    whole = hashlib.sha256(name).hexdigest()
    assert paths.key(topology, project) == whole[: paths.KEY_LENGTH]
