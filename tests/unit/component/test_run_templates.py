"""The parameters of a run: as SOAForPython has them, and as plain data."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import component
from orchestrator.component import ServiceParamTemplate, SetupError
from orchestrator.component.runs import templates


def test_the_attributes_are_those_of_the_seed() -> None:
    template = ServiceParamTemplate("/work", "pool/sim.py", "in.dat", "out.dat", mesh="fine")
    assert (template.g_work_path, template.g_service_path) == ("/work", "pool/sim.py")
    assert (template.g_input_file, template.g_output_file) == ("in.dat", "out.dat")
    assert template.o_watcher_enabled is True
    assert template.o_watcher_interal == template.o_watcher_interval == 3
    assert template.g_service_id is template.s_service_name is template.s_user_id is None
    assert vars(template)["mesh"] == "fine"
    assert template.missing() == ()
    assert ServiceParamTemplate("/work", "", None).missing() == (
        "g_input_file",
        "g_output_file",
        "g_service_path",
    )


def test_both_spellings_of_the_interval_are_one() -> None:
    template = ServiceParamTemplate(o_watcher_interal=1)
    assert template.o_watcher_interval == 1
    template.o_watcher_interval = 2
    assert template.o_watcher_interal == 2
    assert template.to_plain() == {"o_watcher_interval": 2}


def test_special_parameters_are_registered() -> None:
    template = ServiceParamTemplate()
    template.register_param({"time": 5, "files": ["a", "b"]})
    assert vars(template)["s_time"] == 5
    assert vars(template)["s_files"] == ["a", "b"]
    assert template.get_param() == {"s_time", "s_files"}
    with pytest.raises(SetupError, match="'a b': it is no identifier"):
        template.register_param({"a b": 1})


def test_arguments_of_the_program_are_added() -> None:
    template = ServiceParamTemplate()
    template.set_service_param({"step": 5})
    template.set_service_param({"step": 6, "name": Path("a/b"), "to": Decimal("1.10")})
    words = {"step": 6, "name": "a/b", "to": "1.10"}
    assert template.to_plain() == {"s_service_args": words}
    assert ServiceParamTemplate().s_service_args == {}


def test_what_is_not_set_is_left_to_the_job() -> None:
    assert ServiceParamTemplate(input_file=Path("in.dat")).to_plain() == {"g_input_file": "in.dat"}


class Own(ServiceParamTemplate):
    """As somebody's client has it, with arguments of its own."""

    def __init__(self, mesh: str, **kwargs: Any) -> None:
        super().__init__("/work", "p", "in", "out", **kwargs)
        self.mesh = mesh
        self._cache = object()


def test_a_subclass_travels_as_data() -> None:
    own = Own("fine", limit=Decimal("1.10"), when=datetime(2026, 1, 2, tzinfo=UTC))
    wire = json.loads(json.dumps(own.to_plain()))
    assert "_cache" not in wire
    back = ServiceParamTemplate.from_plain(wire)
    assert vars(back)["mesh"] == "fine"
    assert vars(back)["limit"] == Decimal("1.10")
    assert vars(back)["when"] == datetime(2026, 1, 2, tzinfo=UTC)
    assert isinstance(Own.from_plain(wire), Own)


def test_what_cannot_travel_is_named() -> None:
    with pytest.raises(SetupError) as failure:
        ServiceParamTemplate(a=object(), b=lambda: 1, c=1).to_plain()
    assert [mistake.split(":")[0] for mistake in failure.value.mistakes] == [
        "cannot send the attribute 'a'",
        "cannot send the attribute 'b'",
    ]


@pytest.mark.parametrize(
    "found",
    [
        {"a": {"__uuid__": True, "as_str": "x"}},
        {"s_param_set": 5},
        {"s_service_args": 5},
        {"__class__": 5},
    ],
)
def test_received_data_that_is_none_is_refused(found: dict[str, Any]) -> None:
    with pytest.raises(SetupError, match="cannot read the template"):
        ServiceParamTemplate.from_plain(found)


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.datetimes(timezones=st.just(UTC))
)
_KEYS = st.text() | st.integers() | st.uuids()
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(_KEYS, inner) | st.sets(_KEYS),
    max_leaves=10,
)


@given(_VALUES)
def test_every_value_comes_back_as_it_was(value: Any) -> None:
    wire = json.dumps(templates.plain(value), allow_nan=False)
    back = templates.exact(json.loads(wire))
    assert back == value
    assert type(back) is type(value)


def test_tuples_and_paths_are_lists_and_texts() -> None:
    assert templates.plain((1, Path("a/b"))) == [1, "a/b"]
    assert templates.exact({"__uuid__": True, "as_str": str(UUID(int=1))}) == UUID(int=1)


def test_the_names_for_users_are_there() -> None:
    for name in component.__all__:
        assert getattr(component, name) is not None
