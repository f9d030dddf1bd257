"""What the user tells of a packed checkpoint; it lies in ``quantization_config.about`` and on the model card."""

from __future__ import annotations

from collections.abc import Mapping

from xtc_ds.errors import ExportError

__all__ = ["check_about"]

# Keys of ``export_packed(about=...)``; all but "teacher" are keys of the hub's own metadata.
_KEYS = ("base_model", "teacher", "dataset", "license", "language")


def check_about(about: Mapping[str, str]) -> dict[str, str]:
    """A copy. Raises ExportError for an unknown key or a value that is no text."""
    for key, value in about.items():
        if key not in _KEYS:
            raise ExportError(f"about: found {key!r}; allowed: {', '.join(_KEYS)}")
        if not isinstance(value, str) or not value:
            raise ExportError(f"about: {key} is {value!r}; a text is needed")
    return dict(about)
