"""The fields of a configuration, as authors declare them in a `ConfigurationManager`.

symbol = ConfField("BTC-USD")
limit = ConfField(type=Decimal)              # no default, and what it must be
log = FileConfField("main.log", "logging")   # its standard path is below the base directory
cache = DirConfField("cache", "data")        # so is this one's, and a build makes it
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from orchestrator.component import kinds
from orchestrator.component.errors import ConfigurationError
from orchestrator.component.kinds import Kind, NotAModel

CATEGORIES = ("data", "logging", "static")
"""The directories for files and directories of a configuration, below the base directory."""

_TYPED = (bool, int, float, str, bytes)


class ConfField:
    """A variable of a configuration.

    Args:
        value: Its default. Each configuration has a copy of its own.
        type: What its values must be, as in the models of handlers: `Decimal`, `[str]`,
            `{str: int}`. Without it a default says what texts are read as, and any value is
            taken.

    Raises:
        ConfigurationError: `type` describes no type, or the default is not of it.
    """

    def __init__(self, value: Any = None, *, type: Any = None) -> None:  # noqa: A002 - the seat's name
        self._value = value
        self.type = type
        self._kind: Kind | None = None
        if type is not None:
            try:
                self._kind = kinds.compile_type(type, wire=False)
            except NotAModel as error:
                raise ConfigurationError(f"cannot declare a field: {error}") from error
            if value is not None and (mistakes := [*self.explain(value, "the default")]):
                raise ConfigurationError([f"cannot declare a field: {one}" for one in mistakes])

    @property
    def value(self) -> Any:
        """The default."""
        return self._value

    @property
    def model(self) -> Any:
        """What texts are read as: the type that was declared, else that of the default."""
        if self.type is not None:
            return self.type
        return object if self._value is None else self._value.__class__

    @property
    def plain(self) -> Any:
        """The same as plain data, see `orchestrator.wire.shapes`."""
        try:
            return kinds.compile_type(self.model, wire=False).plain
        except NotAModel:
            return "any"

    def default(self) -> Any:
        """Return the default, a copy of one's own."""
        value = self._value
        return value if value is None or isinstance(value, _TYPED) else copy.deepcopy(value)

    def explain(self, value: Any, name: str) -> Iterator[str]:
        """Yield what is wrong with a value; of a field without a type nothing is."""
        if value is not None and self._kind is not None and not self._kind.accepts(value):
            yield from self._kind.explain(value, name)

    def is_standard(self) -> bool:
        """Tell whether a standard path is made for it."""
        return False


class _PathField(ConfField):
    def __init__(self, suffix: str, category: str, value: Any = None) -> None:
        super().__init__(value)
        if category not in CATEGORIES:
            raise ConfigurationError(
                f"cannot declare a field: the category {category!r} is none of "
                + ", ".join(map(repr, CATEGORIES))
            )
        parts = Path(suffix).parts
        if not suffix or suffix.startswith("/") or ".." in parts:
            raise ConfigurationError(
                f"cannot declare a field: the suffix {suffix!r} must be a path below its category"
            )
        self.suffix = suffix
        self.category = category

    @property
    def model(self) -> Any:
        """Paths are text, whatever the default is a part of."""
        return str if self._value is None else super().model

    def is_standard(self) -> bool:
        """Tell whether a standard path is made for it."""
        return True


class FileConfField(_PathField):
    """The path of a file, `<base>/<category>/<service>-<component>-<suffix>` by standard.

    The file is not made. For configurations of services the path has no component, for those
    of packages no service either.

    Args:
        suffix: The last part of its name.
        category: `data`, `logging` or `static`.
        value: Its default, which may be anything that `setattr_fct` puts the path into.
        setattr_fct: Called as `(configuration, name, path)` in place of setting the field.

    Raises:
        ConfigurationError: The category is none, or the suffix leads elsewhere.
    """

    def __init__(
        self,
        suffix: str,
        category: str,
        value: Any = None,
        setattr_fct: Callable[[Any, str, str], object] | None = None,
    ) -> None:
        super().__init__(suffix, category, value)
        self.setattr_fct = setattr_fct


class DirConfField(_PathField):
    """The path of a directory, named as a `FileConfField`; a build makes it.

    Raises:
        ConfigurationError: The category is none, or the suffix leads elsewhere.
    """
