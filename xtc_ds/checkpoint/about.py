"""What the user says about a packed checkpoint; stored in ``quantization_config.about`` and shown on the model card."""

from __future__ import annotations

from collections.abc import Mapping

from xtc_ds.errors import ExportError

__all__ = ["check_about"]

# Keys of ``export_packed(about=...)``; all but "teacher" are also keys of the Hugging Face hub's card metadata.
_KEYS = ("base_model", "teacher", "dataset", "license", "language")


def check_about(about: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of ``about``. Raises ExportError for an unknown key or a value that is not a non-empty string."""
    for key, value in about.items():
        if key not in _KEYS:
            raise ExportError(f"about: found {key!r}; allowed: {', '.join(_KEYS)}")
        if not isinstance(value, str) or not value:
            raise ExportError(f"about: {key} is {value!r}; a text is needed")
    return dict(about)
