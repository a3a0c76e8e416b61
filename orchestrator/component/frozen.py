"""Values that nobody can change: what handlers see of states.

They are dicts and lists still, so that they can be printed, compared, sent and written as JSON;
only changing them fails. `dict(value)`, `list(value)` and `copy.deepcopy(value)` give what can be
changed.
"""

from __future__ import annotations

import copy
from typing import Any, NoReturn


def freeze(value: Any) -> Any:
    """Return a frozen copy of a value; what is frozen already is not copied again."""
    kind = type(value)
    if kind is FrozenDict or kind is FrozenList:
        return value
    if isinstance(value, dict):
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list):
        return FrozenList(map(freeze, value))
    if isinstance(value, tuple):
        return tuple(map(freeze, value))
    if isinstance(value, set):
        return frozenset(value)
    return value


def _refuse(*_: object, **__: object) -> NoReturn:
    raise TypeError(
        "a state is read-only; copy it, or send a change with to_send('state', name, …)"
    )


class FrozenDict(dict[Any, Any]):
    """A dict that cannot be changed."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[Any, Any]:
        return {key: copy.deepcopy(item, memo) for key, item in self.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class FrozenList(list[Any]):
    """A list that cannot be changed."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [copy.deepcopy(item, memo) for item in self]

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)
