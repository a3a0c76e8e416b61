"""Files of configuration that a topology names by `config_file`."""

from __future__ import annotations

from pathlib import Path

from orchestrator.config import valuesfile
from orchestrator.config.document import Declared, Layer
from orchestrator.config.report import Place, Report
from orchestrator.config.valuesfile import Modules


def read(
    declared: Declared, modules: Modules | None, found: Report, known: dict[Path, Layer | None]
) -> tuple[Layer, ...]:
    """Return what the files of a component give: those of the system, the service and its own.

    Args:
        declared: The component.
        modules: Tells what Python modules give.
        found: Takes what is wrong.
        known: Files that were read already; takes those that are read.
    """
    made: list[Layer] = []
    for layer in reversed(declared.config_files):
        named = layer.fields["config_file"]
        items = enumerate(named) if isinstance(named, list) else [("config_file", named)]
        for key, word in items:
            container = named if isinstance(named, list) else layer.fields
            if not isinstance(word, str) or "${" in word:
                continue  # A reference that cannot stand here, which has been said.
            path = (layer.source.directory / word).absolute()
            if path not in known:
                place = Place(layer.source, container, key)
                source = valuesfile.read(path, word, place, modules, found)
                known[path] = None if source is None else Layer(source, valuesfile.exact(source))
            one = known[path]
            if one is not None:
                made.append(one)
    return tuple(made)
