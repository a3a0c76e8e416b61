"""Key files as texts."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq
import zmq.auth

from orchestrator.wire import keys
from orchestrator.wire.keys import Keys


def pair() -> Keys:
    return Keys(*(key.decode() for key in zmq.curve_keypair()))


def test_what_is_written_is_read_again() -> None:
    for _ in range(50):
        made = pair()
        assert keys.read(keys.write(made)) == made
        assert keys.read(keys.write(Keys(made.public))) == Keys(made.public)


def test_other_programs_read_and_write_the_same(tmp_path: Path) -> None:
    directory = tmp_path
    made = pair()
    (directory / "ours.key").write_text(keys.write(made))
    assert zmq.auth.load_certificate(directory / "ours.key") == (
        made.public.encode(),
        made.secret.encode(),
    )
    public, secret = zmq.auth.create_certificates(directory, "theirs")
    found = keys.read(Path(secret).read_text())
    assert found.secret
    assert keys.read(Path(public).read_text()).public == found.public


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no public-key"),
        ('public-key = "short"', "40 characters"),
        ('secret-key = "' + "a" * 40 + '"', "no public-key"),
        ('public-key = "' + "a" * 39 + '~"', "40 characters"),
    ],
)
def test_what_holds_no_key_is_told_and_not_shown(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        keys.read(text)
    assert "aaa" not in str(caught.value)


def test_a_secret_key_is_in_no_representation() -> None:
    made = pair()
    assert made.secret not in repr(made)
