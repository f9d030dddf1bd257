"""``install``: restore the old import paths and make ``deepspeed.initialize`` accept configs with the block."""

from __future__ import annotations

import functools
import sys
from typing import Any

import wrapt

from xtc_ds.compat.names import load_name
from xtc_ds.compat.patches import Patches

__all__ = ["install", "uninstall"]

# Old module to the names it had.
_OLD_NAMES = {
    "deepspeed.compression": (
        "init_compression",
        "redundancy_clean",
        "student_initialization",
        "compression_scheduler",
        "convert_conv1d_to_linear",
    ),
    "deepspeed.compression.compress": ("init_compression", "redundancy_clean", "student_initialization"),
    "deepspeed.compression.config": ("get_compression_config",),
    "deepspeed.compression.helper": ("convert_conv1d_to_linear",),
    "deepspeed.compression.scheduler": ("compression_scheduler",),
}

_patches = Patches()
_wanted = False
_done = False
_hooked = False


def install() -> None:
    """Restore the old names of ``deepspeed.compression`` on any DeepSpeed version; a second call is a no-op.

    Imports such as ``from deepspeed.compression.compress import init_compression`` return this project's functions.
    ``deepspeed.initialize`` is monkeypatched to accept configs with a ``compression_training`` block, which is removed
    before DeepSpeed reads them. The schedule of a model that went through ``init_compression`` advances with the engine
    and is saved in its checkpoints. DeepSpeed may be imported before or after the call.
    """
    global _wanted, _hooked
    _wanted = True
    if not _hooked:
        _hooked = True
        wrapt.register_post_import_hook(_patch, "deepspeed")  # runs at once if deepspeed is imported already
    elif "deepspeed" in sys.modules:
        _patch(sys.modules["deepspeed"])


def uninstall() -> None:
    """Undo ``install``; names imported from the old paths in the meantime keep referring to this project."""
    global _wanted, _done
    _wanted = _done = False
    _patches.undo()


def _patch(deepspeed: Any) -> None:
    global _done
    if not _wanted or _done:
        return
    _done = True
    from xtc_ds.compat.initialize import patched_initialize
    from xtc_ds.compat.memory import forget_calls

    forget_calls()
    _patch_names()
    original = deepspeed.initialize
    ours = patched_initialize(original)
    _patches.set(deepspeed, "initialize", ours)
    _patches.rebind(original, ours, "deepspeed")
    _patch_config()


def _patch_names() -> None:
    for module_name, names in _OLD_NAMES.items():
        module = _patches.module(module_name)
        for name in names:
            ours, old = load_name(name), vars(module).get(name)
            _patches.set(module, name, ours)
            if old is not None and old is not ours:
                _patches.rebind(old, ours, "deepspeed")
    helper, moved = _patches.module("deepspeed.compression.helper"), _patches.module("deepspeed.utils.module_utils")
    for name in ("recursive_getattr", "recursive_setattr"):
        if not hasattr(helper, name):
            _patches.set(helper, name, getattr(moved, name))


def _patch_config() -> None:
    """Remove the block also from configs that reach DeepSpeed elsewhere (``zero.Init``, activation checkpointing)."""
    from deepspeed.runtime.config import DeepSpeedConfig

    from xtc_ds.compat.initialize import without_block

    original = DeepSpeedConfig.__init__

    @functools.wraps(original)
    def init(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        original(self, without_block(config), *args, **kwargs)

    _patches.set(DeepSpeedConfig, "__init__", init)
