"""Monkeypatch modules of other packages such that all changes can be undone."""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

__all__ = ["Patches"]

_MISSING = object()


def _remove(module_name: str) -> None:
    sys.modules.pop(module_name, None)


class Patches:
    """A list of changes to modules and classes, which are undone in reverse order."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute of a module or class."""
        old = vars(owner).get(name, _MISSING)
        setattr(owner, name, value)
        self._undo.append(lambda: delattr(owner, name) if old is _MISSING else setattr(owner, name, old))

    def rebind(self, old: Any, new: Any, package: str) -> None:
        """Replace ``old`` in all modules outside ``package`` (and ``xtc_ds``) that imported it by name."""
        for module in list(sys.modules.values()):
            names = getattr(module, "__dict__", None)
            known_as = getattr(module, "__name__", "")
            if not isinstance(names, dict) or str(known_as).partition(".")[0] in (package, "xtc_ds"):
                continue
            for name in [name for name, value in list(names.items()) if value is old]:
                self.set(module, name, new)

    def module(self, name: str) -> types.ModuleType:
        """The module ``name``; if it does not exist, an empty module is created that can be imported from now on."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # DeepSpeed's remaining stubs warn that the library is gone
                return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
        module = types.ModuleType(name, "Part of DeepSpeed's former compression library, kept by xtc_ds.")
        parent, _, own_name = name.rpartition(".")
        sys.modules[name] = module
        self._undo.append(lambda: _remove(name))
        self.set(sys.modules[parent], own_name, module)
        return module

    def undo(self) -> None:
        """Undo all changes."""
        while self._undo:
            self._undo.pop()()
