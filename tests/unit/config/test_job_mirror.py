"""Where the rows of runs are mirrored, as a topology says it."""

from __future__ import annotations

import pytest

from tests.unit.config.conftest import Workshop, marked

HOUSE = """\
name: house
settings: {{HOST: {{default: here}}, PASSWORD: {{secret: true, required: true}}}}
addresses: {{book: auto}}
job_mirror: {}
services: {{s: {{command: "true"}}}}
"""


@pytest.mark.parametrize(
    ("where", "meant"),
    [
        ("redis://h:6379/0#lab", "redis://h:6379/0#lab"),
        ("'redis://${settings.HOST}/0'", "redis://here/0"),
        ("'rediss://:${settings.PASSWORD}@h'", "rediss://:${settings.PASSWORD}@h"),
        ("'${settings.PASSWORD}'", "${settings.PASSWORD}"),
    ],
)
def test_a_url_may_name_settings_and_secrets_stay_unnamed(
    workshop: Workshop, where: str, meant: str
) -> None:
    locked = workshop.lock(HOUSE.format(where), settings={"PASSWORD": "xyz"})
    assert locked.lock.job_mirror == meant
    assert workshop.lock("services: {s: {command: 'true'}}").lock.job_mirror is None


@pytest.mark.parametrize(
    ("where", "mark"),
    [
        ("sqlite", "sqlite"),
        ("http://h", "http://h"),
        ("'redis://${addresses.book}'", "${addresses.book}"),
        ("'redis://${self.name}'", "${self.name}"),
    ],
)
def test_what_is_no_redis_server_is_refused(workshop: Workshop, where: str, mark: str) -> None:
    *_, one = workshop.mistakes(HOUSE.format(where), settings={"PASSWORD": "xyz"})
    assert (one.code, marked(one)) == ("ORC420", mark)
