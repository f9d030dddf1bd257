"""Avoid waiting for an unreachable Hugging Face hub, whose clients retry for half a minute."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["look_in_the_cache_if_offline", "offline_unless_reachable"]

_TIMEOUT_SECONDS = 5.0


@contextmanager
def offline_unless_reachable() -> Iterator[None]:
    """Context manager: if the hub is unreachable, ``datasets`` uses only its cache."""
    import datasets.config
    import huggingface_hub.constants

    if _reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co")):
        yield
        return
    settings: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [setting.HF_HUB_OFFLINE for setting in settings]
    try:
        for setting in settings:
            setting.HF_HUB_OFFLINE = True
        yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.HF_HUB_OFFLINE = value


def look_in_the_cache_if_offline(model: str) -> None:
    """If the hub is unreachable, make transformers look for the hub id ``model`` only in the local cache."""
    import huggingface_hub.constants as settings

    if not Path(model).expanduser().exists() and not _reachable(settings.ENDPOINT):
        settings.HF_HUB_OFFLINE = True


def _reachable(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=_TIMEOUT_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True  # it answered
    except (OSError, ValueError):
        return False
