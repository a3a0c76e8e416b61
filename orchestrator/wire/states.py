"""Replicated values: how a copy follows its source, whatever is lost on the way. No I/O, no clock.

A full state is sent whole each time, `{"args": value, "workflow_id": …}`. A delta state is sent as
numbered changes, in the form of service_framework:

    update     {"args": {"current_num": 7, "is_snapshot": false, "state": {key: value, …}}, …}
    request    {"args": {}, …}
    snapshot   {"return_args": {"current_num": 7, "state": {…}}, …}

A value of None deletes its key. A change with `is_snapshot` replaces everything.

Beside `args` and `return_args` our sources write `epoch`, another text in each life, which
service_framework ignores. With it a copy tells a source that has begun anew from messages that
come twice. Who subscribes is told by an update without changes: to copies that miss nothing it
says nothing, to all others that they are behind. The first update of a life is a snapshot, which
service_framework's copies need after a restart, since they see no epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.wire import values

MOST_PENDING = 10_000
"""How many updates a copy keeps while it waits for a snapshot; of more it keeps the newest."""

PATIENCE = 0.1
"""After how many seconds a copy that is behind may ask again: what it asked may be dead by now."""

Value = Mapping[Any, Any]


@dataclass(frozen=True, slots=True)
class Update:
    """A change of a delta state, or all of it when `whole`. Other programs give no epoch."""

    number: int
    changes: Value
    whole: bool = False
    epoch: str | None = None


class Source:
    """The one place where a delta state changes."""

    def __init__(self, epoch: str, value: Value | None = None, number: int = -1) -> None:
        self.value: dict[Any, Any] = dict(value or {})
        self.number = number
        self.epoch = epoch
        self._told = False

    def plan(self, changes: Value, *, whole: bool = False, number: int | None = None) -> Update:
        """Return the update for a change, which is made by `commit`.

        Args:
            changes: New values by key; None deletes the key, which need not be there.
            whole: Whether they replace all there is.
            number: The number that the caller would like; it is taken if it is a higher one.
        """
        last = self.number
        following = number if number is not None and number > last else last + 1
        if not whole and not self._told:
            whole, changes = True, {**self.value, **changes}
        if whole:
            changes = {key: item for key, item in changes.items() if item is not None}
        return Update(following, changes, whole, self.epoch)

    def commit(self, update: Update) -> None:
        """Make the change of an update that `plan` has returned."""
        if update.whole:
            self.value = dict(update.changes)
        else:
            merge(self.value, update.changes)
        self.number = update.number
        self._told = True

    def snapshot(self) -> Update:
        """Return all there is, as it is to be sent to one who asks."""
        return Update(self.number, self.value, whole=True, epoch=self.epoch)


class Replica:
    """A copy of a delta state. Reading it while it is behind gives what it had last."""

    def __init__(self) -> None:
        self.value: dict[Any, Any] = {}
        self.number = -1
        self.epoch: str | None = None
        self.is_behind = True
        self._pending: list[Update] = []
        self._asked: float | None = None
        self._asked_after: int | None = None
        self._asked_epoch: str | None = None
        self._known_when_asked = 0

    def take(self, update: Update) -> bool:
        """Take an update, and tell whether the value changed.

        Twice the same, or one that is older than the value, is dropped. One that does not follow
        on the value is kept until a snapshot comes, see `asks`.
        """
        is_known, is_same = update.epoch is not None, update.epoch == self.epoch
        if is_known and is_same and update.number <= self.number:
            return False
        # Of two lives the younger cannot be told; whoever is asked is alive.
        if update.whole and (is_same or not is_known or self.epoch is None):
            self._become(update, update.number)
            return True
        if is_same and not update.whole and update.number == self.number + 1:
            merge(self.value, update.changes)
            self.number = update.number
            self._catch_up()
            return bool(update.changes)
        self.is_behind = True
        if len(self._pending) >= MOST_PENDING:
            self._pending.clear()
            self._known_when_asked = 0
        self._pending.append(update)
        return False

    def asks(self, now: float) -> bool:
        """Tell whether a snapshot is to be asked for now, in seconds of any steady clock.

        Whoever is told so asks: the next answer counts as the answer to that.
        """
        if not self.is_behind:
            return False
        newest = self._pending[-1] if self._pending else None
        epoch = newest.epoch if newest else self._asked_epoch
        is_new = epoch != self._asked_epoch
        if self._asked is not None and not is_new and now - self._asked < PATIENCE:
            return False
        self._asked, self._asked_epoch = now, epoch
        self._asked_after = newest.number if newest else None
        self._known_when_asked = len(self._pending)
        return True

    def answer(self, snapshot: Update) -> bool:
        """Take the answer to the latest request, and tell whether the value changed."""
        self._asked = None
        if not self.is_behind:
            return False
        number = snapshot.number
        if snapshot.epoch is None and self._asked_after is not None:
            # service_framework's source says 0 always; it cannot be behind what it had sent
            # before it was asked.
            number = max(number, self._asked_after)
        if snapshot.epoch is not None and snapshot.epoch == self.epoch and number < self.number:
            return False
        # What was here before the question cannot be of a life that follows the answer's.
        known, self._known_when_asked = self._known_when_asked, 0
        self._pending = [
            update
            for index, update in enumerate(self._pending)
            if index >= known or update.epoch == snapshot.epoch
        ]
        self._become(snapshot, number)
        return True

    def _become(self, update: Update, number: int) -> None:
        self.value = {key: item for key, item in update.changes.items() if item is not None}
        self.number, self.epoch = number, update.epoch
        self._catch_up()

    def _catch_up(self) -> None:
        pending, self._pending = self._pending, []
        self._known_when_asked = 0
        self.is_behind = False
        for update in sorted(pending, key=_number):
            # What another program numbers anew is not told from what is old; it has been asked.
            if update.epoch is not None or update.number > self.number:
                self.take(update)


def merge(value: dict[Any, Any], changes: Value) -> None:
    """Change `value` in place; None deletes a key, which need not be there."""
    for key, item in changes.items():
        if item is None:
            value.pop(key, None)
        else:
            value[key] = item


def encode_update(update: Update, workflow_id: str | None) -> bytes:
    """Return the frame of an update, without its topic."""
    arguments = {
        "current_num": update.number,
        "is_snapshot": update.whole,
        "state": values.mapping(dict(update.changes)),
    }
    message = {"args": arguments, "workflow_id": workflow_id, "epoch": update.epoch}
    return values.encode(message)


def encode_snapshot(update: Update, workflow_id: str | None) -> bytes:
    """Return the frame that answers a request for a snapshot."""
    arguments = {"current_num": update.number, "state": values.mapping(dict(update.changes))}
    message = {"return_args": arguments, "workflow_id": workflow_id, "epoch": update.epoch}
    return values.encode(message)


def decode_update(frame: bytes, topic: bytes) -> tuple[Update, str | None]:
    """Return update and workflow id of a frame whose topic has the prefix `topic`.

    Raises:
        MalformedMessage: The frame has another topic or holds no update.
    """
    if not frame.startswith(topic):
        raise values.MalformedMessage(f"cannot read an update: its topic is not {topic!r}")
    message = values.decode(frame[len(topic) :] if topic else frame)
    workflow_id = message.get("workflow_id") if isinstance(message, dict) else None
    update = _update(message, "args", "update")
    return update, None if workflow_id is None else f"{workflow_id!s:.200}"


def decode_snapshot(frame: bytes) -> Update:
    """Return the snapshot that a frame holds.

    Raises:
        MalformedMessage: The frame holds none; the message repeats the error that it may hold.
    """
    message = values.decode(frame)
    if isinstance(message, dict) and isinstance(message.get("error"), dict):
        said = message["error"].get("message")
        raise values.MalformedMessage(f"cannot have a snapshot: the peer answered {said!r:.200}")
    return _update(message, "return_args", "snapshot")


def _update(message: Any, key: str, noun: str) -> Update:
    try:
        arguments, epoch = message[key], message.get("epoch")
        number, state = arguments["current_num"], arguments["state"]
        whole = noun == "snapshot" or arguments["is_snapshot"]
    except (TypeError, KeyError, AttributeError):
        number = state = whole = epoch = None
    fits = (
        type(number) is int
        and isinstance(state, dict)
        and isinstance(whole, bool)
        and (epoch is None or isinstance(epoch, str))
    )
    if not fits:
        raise values.MalformedMessage(
            f"cannot read a delta {noun}: expected a map {key!r} with 'current_num', 'state' and, "
            f"in an update, 'is_snapshot'; got {message!r:.200}"
        )
    return Update(number, state, whole, epoch)


def _number(update: Update) -> int:
    return update.number
