"""Functions of a handler file, called with as many arguments as they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

Function = Callable[..., Any]

MESSAGE: Mapping[int, tuple[int, ...]] = {4: (0, 1, 2, 3), 3: (0, 1, 2), 2: (0, 1), 1: (0,)}
"""A function for messages: (args, to_send, states, config), or the first few of them."""

MAIN: Mapping[int, tuple[int, ...]] = {2: (0, 2), 3: (0, 1, 2), 1: (0,)}
"""The main function: (to_send, config), (to_send, states, config) or (to_send)."""

SIGNAL: Mapping[int, tuple[int, ...]] = {5: (0, 1, 2, 3, 4), 2: (0, 1), 0: ()}
"""A signal hook: (signal, frame, to_send, states, config), or (signal, frame), or nothing."""

LOAD: Mapping[int, tuple[int, ...]] = {4: (0, 1, 2, 3), 1: (0,), 0: ()}
"""A hook of code that comes: (previous module, to_send, states, config), (previous) or none."""

UNLOAD: Mapping[int, tuple[int, ...]] = {3: (0, 1, 2), 0: ()}
"""A hook of code that goes: (to_send, states, config), or nothing."""

ANY: Mapping[int, tuple[int, ...]] = {}
"""A function of any form."""

CONFIG: Mapping[int, tuple[int, ...]] = {1: (0,), 0: ()}
"""A hook that takes the configuration, or nothing."""

SETTINGS: Mapping[int, tuple[int, ...]] = {2: (0, 1), 1: (0,), 0: ()}
"""A hook of changed settings: (settings, config), (settings) or nothing."""

WITH_CONFIG: Mapping[int, tuple[int, ...]] = {2: (0, 1), 1: (0,)}
"""A hook that takes addresses or models and the configuration, or the former alone."""

_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def adapt(function: object, forms: Mapping[int, tuple[int, ...]]) -> Function:
    """Return `function` as one that takes all arguments of its kind and passes on those it knows.

    Args:
        function: What the handler file gives.
        forms: By number of parameters, which of all arguments they are. The first form that
            fits is taken.

    Raises:
        TypeError: It is not callable, takes another number of arguments, or is a generator.
    """
    if not callable(function):
        raise TypeError(f"expected a function, got {type(function).__name__} {function!r:.80}")
    if not forms:
        return function
    if isinstance(function, FunctionType) and function.__code__.co_flags & _GENERATOR:
        raise TypeError(
            f"{function.__name__} is a generator, so that calling it would run none of its code; "
            "do not yield"
        )
    everything = max(len(indices) for indices in forms.values())
    count = _plain_count(function)
    if count in forms:
        indices = forms[count]
        return function if indices == tuple(range(everything)) else _reduced(function, indices)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        # Some built-in functions do not tell; they are called with all there is.
        return function
    for count, indices in forms.items():
        try:
            signature.bind(*([None] * count))
        except TypeError:
            continue
        if indices == tuple(range(everything)):
            return function
        return _reduced(function, indices)
    wanted = " or ".join(map(str, sorted(forms)))
    name = getattr(function, "__name__", repr(function))
    raise TypeError(f"{name}{signature} must take {wanted} arguments")


def is_async(function: object) -> bool:
    """Tell whether calling `function` gives a coroutine."""
    if type(function) is FunctionType and not function.__dict__:
        return bool(function.__code__.co_flags & inspect.CO_COROUTINE)
    call = getattr(function, "__call__", None)  # noqa: B004 - an object may be callable by an async method
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _plain_count(function: object) -> int:
    """Return how many arguments a function takes, -1 when it takes no fixed number.

    That is most functions; whoever looks closer needs much of `inspect` for it, at each start.
    """
    if type(function) is not FunctionType or function.__dict__ or function.__defaults__:
        return -1
    code = function.__code__
    varying = code.co_kwonlyargcount or code.co_flags & (
        inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    )
    return -1 if varying else code.co_argcount


def _reduced(function: Function, indices: tuple[int, ...]) -> Function:
    def call(*arguments: object) -> object:
        return function(*[arguments[index] for index in indices])

    return call
