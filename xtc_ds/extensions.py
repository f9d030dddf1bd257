"""Find technique packages: the built-in ones by name, and those that other distributions provide.

A technique is a package whose modules are imported only when they are needed: ``config`` (its section of the config
block; must not import torch) and the modules that compute. Another distribution adds one with an entry point::

    [project.entry-points."xtc_ds.techniques"]
    my_technique = "my_package.my_technique"
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from xtc_ds.errors import ConfigError

__all__ = [
    "BUILT_IN_TECHNIQUES",
    "TECHNIQUE_ENTRY_POINTS",
    "entry_points_of",
    "import_from_techniques",
    "named_if_broken",
    "register_entry_points",
]

# In the order of the schema and the documentation. A new built-in technique is one line here.
BUILT_IN_TECHNIQUES = (
    "layer_reduction",
    "weight_quantization",
    "activation_quantization",
    "sparse_pruning",
    "row_pruning",
    "head_pruning",
    "channel_pruning",
    "kd",
    "export",
    "runtime",
)
TECHNIQUE_ENTRY_POINTS = "xtc_ds.techniques"


@cache
def _all_entry_points() -> Any:
    return entry_points()  # slow: reads a file of every installed distribution


def entry_points_of(group: str) -> tuple[EntryPoint, ...]:
    """The entry points that installed distributions declare in ``group``."""
    return tuple(_all_entry_points().select(group=group))


@contextmanager
def named_if_broken(entry: EntryPoint, group: str) -> Iterator[None]:
    """Turns an error while ``entry`` is imported into a ConfigError that names it."""
    try:
        yield
    except (ImportError, AttributeError) as error:
        place = f"the entry point {entry.name} = {entry.value} ({group})"
        raise ConfigError(f"{place} cannot be imported: {error}; mend or uninstall that package") from error


@cache
def import_from_techniques(module: str) -> None:
    """Import the submodule ``module`` of every technique package that has it, so that it registers its definitions.

    A technique of another distribution may also be a single module, which is then always imported. Raises ConfigError,
    which names the entry point, if one cannot be imported.
    """
    for name in BUILT_IN_TECHNIQUES:
        _import_part(f"xtc_ds.techniques.{name}", module)
    for entry in entry_points_of(TECHNIQUE_ENTRY_POINTS):
        with named_if_broken(entry, TECHNIQUE_ENTRY_POINTS):
            _import_part(entry.value, module)


def _import_part(package: str, module: str) -> None:
    imported = importlib.import_module(package)
    if hasattr(imported, "__path__") and importlib.util.find_spec(f"{package}.{module}") is not None:
        importlib.import_module(f"{package}.{module}")


@cache
def register_entry_points(group: str) -> None:
    """Call every function in the entry-point group ``group``, so that it registers what its distribution provides.

    Raises ConfigError, which names the entry point, if one cannot be imported.
    """
    for entry in entry_points_of(group):
        with named_if_broken(entry, group):
            register = entry.load()
        register()
