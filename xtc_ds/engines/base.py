"""Report and error helpers that all containers of ``export_to`` share."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

from xtc_ds.errors import ExportError

__all__ = ["EngineReport", "Written", "refuse", "require"]


@dataclass(frozen=True)
class Written:
    """The result of a container's writer.

    differs: what the engine computes differently from the frozen model; empty if only the order of sums differs.
    """

    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineReport:
    """The files that were written. Sizes are in bytes, measured on disk.

    files: name to size. file_bytes: their sum. differs: what the engine computes differently from the frozen model.
    """

    folder: Path
    container: str
    files: dict[str, int] = field(default_factory=dict)
    differs: tuple[str, ...] = ()

    @property
    def file_bytes(self) -> int:
        """Total size of all files in bytes."""
        return sum(self.files.values())


def require(container: str, *packages: str) -> None:
    """Raise ExportError, with the pip command to run, if one of the packages is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(
            f"{container}: needs the package{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
            f"pip install 'xtc-ds[{container}]'"
        )


def refuse(container: str, layer: str, why: str, remedy: str) -> ExportError:
    """The error to raise for a layer that a container cannot represent exactly."""
    return ExportError(f"{container}: {layer}: {why}; {remedy}")
