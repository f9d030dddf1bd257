"""The DeepSpeed configs that come with the package (``json_configs/`` in a checkout)."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

__all__ = ["find_config", "shipped_configs"]

_FOLDER = "json_configs"


def shipped_configs() -> dict[str, Path]:
    """Name (without ``.json``) to file, sorted by name."""
    folder = Path(str(resources.files("xtc_ds").joinpath(_FOLDER)))
    return {file.stem: file for file in sorted(folder.glob("*.json"))}


def find_config(given: str) -> str:
    """The path for a config given on the command line: an existing file, else the shipped config of that name.

    A shipped config may be given as ``json_configs/xtc_1bit.json``, ``xtc_1bit.json`` or ``xtc_1bit``, so that commands
    work in any folder. Any other name is returned unchanged.
    """
    path = Path(given)
    if not path.exists() and path.parent in (Path(), Path(_FOLDER)) and path.suffix in ("", ".json"):
        return str(shipped_configs().get(path.stem, given))
    return given
