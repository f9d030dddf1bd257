"""Extreme compression of transformers, driven by one block in a DeepSpeed config.

The names below are the public API. They are imported on first use, so that ``xtc-ds validate`` starts without torch.
Importing the package also enables ``transformers`` to load packed checkpoints.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import wrapt

if TYPE_CHECKING:
    from xtc_ds.checkpoint.deepspeed_model import load_checkpoint
    from xtc_ds.checkpoint.export import export_packed
    from xtc_ds.checkpoint.frozen import freeze
    from xtc_ds.checkpoint.load import load, load_into
    from xtc_ds.config import CompressionConfig, load_config, parse_block, schema

    # Imported from the defining modules, because packages contain modules with the same names.
    from xtc_ds.distillation.teacher import load_teacher
    from xtc_ds.engine import snapshot
    from xtc_ds.engine.initialize import initialize
    from xtc_ds.engine.rehearsal import rehearse
    from xtc_ds.errors import XtcError
    from xtc_ds.freezing.bake import bake
    from xtc_ds.plan import CompressionPlan, plan_table, plan_to_dict
    from xtc_ds.rewrite import compress, make_plan
    from xtc_ds.runtime.choose import set_runtime

__version__ = "0.1.0"

__all__ = [
    "CompressionConfig",
    "CompressionPlan",
    "XtcError",
    "bake",
    "compress",
    "export_packed",
    "freeze",
    "initialize",
    "load",
    "load_checkpoint",
    "load_config",
    "load_into",
    "load_teacher",
    "make_plan",
    "parse_block",
    "plan_table",
    "plan_to_dict",
    "rehearse",
    "schema",
    "set_runtime",
    "snapshot",
]

_HOMES = {
    "CompressionConfig": "xtc_ds.config",
    "CompressionPlan": "xtc_ds.plan",
    "XtcError": "xtc_ds.errors",
    "bake": "xtc_ds.freezing",
    "compress": "xtc_ds.rewrite",
    "export_packed": "xtc_ds.checkpoint",
    "freeze": "xtc_ds.checkpoint",
    "initialize": "xtc_ds.engine",
    "load": "xtc_ds.checkpoint",
    "load_checkpoint": "xtc_ds.checkpoint",
    "load_config": "xtc_ds.config",
    "load_into": "xtc_ds.checkpoint",
    "load_teacher": "xtc_ds.distillation.teacher",
    "make_plan": "xtc_ds.rewrite",
    "parse_block": "xtc_ds.config",
    "plan_table": "xtc_ds.plan",
    "plan_to_dict": "xtc_ds.plan",
    "rehearse": "xtc_ds.engine",
    "schema": "xtc_ds.config",
    "set_runtime": "xtc_ds.runtime",
    "snapshot": "xtc_ds.engine",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'xtc_ds' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def _register_quantizer(module: Any) -> None:
    # The module registers the quantizer when it runs; it may itself be in the middle of being imported.
    importlib.import_module("xtc_ds.checkpoint.hf_quantizer")


# transformers looks quantizers up in its own table, so add ours as soon as that table exists.
wrapt.register_post_import_hook(_register_quantizer, "transformers.quantizers.auto")
