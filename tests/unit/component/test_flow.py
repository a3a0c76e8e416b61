"""Workflow ids: which messages belong to one chain."""

from __future__ import annotations

import re
import uuid

from orchestrator.component.flow import Flow


def test_ids_of_new_chains_are_uuids_of_version_4_and_differ() -> None:
    flow = Flow()
    found = [flow.next() for _ in range(1000)]
    assert len(set(found)) == 1000
    assert {uuid.UUID(one).version for one in found} == {4}
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", one) for one in found)


def test_two_components_begin_chains_of_their_own() -> None:
    one, other = Flow(), Flow()
    assert {one.next() for _ in range(100)}.isdisjoint(other.next() for _ in range(100))
