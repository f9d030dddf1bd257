"""Update Hugging Face configs after layers are dropped, so that the saved model can be rebuilt from them."""

from __future__ import annotations

from typing import Any

from torch import nn

from xtc_ds.techniques.layer_reduction.rows import ReductionRow

__all__ = ["shrink_hf_config"]

# Names of the layer counts in encoder-decoder models; the first one that a config has is used.
_ENCODER = ("encoder_layers", "num_layers", "num_encoder_layers", "num_hidden_layers")
_DECODER = ("decoder_layers", "num_decoder_layers")


def shrink_hf_config(model: nn.Module, row: ReductionRow) -> None:
    """Set the layer count and shorten every list that has one entry per layer, in all configs above the stack.

    Each config is replaced by a copy first, because the teacher may share the object.
    """
    modules = dict(model.named_modules())
    above = [module for name, module in modules.items() if not name or f"{row.stack}.".startswith(f"{name}.")]
    seen: set[int] = set()
    for module in above:
        shared = getattr(module, "config", None)
        key = _count_key(shared, row.stack)
        if shared is None or key is None or id(shared) in seen:
            continue
        config = _shrunk(shared, key, row)
        seen |= {id(shared), id(config)}
        for user in modules.values():
            if getattr(user, "config", None) is shared:
                user.config = config


def _shrunk(shared: Any, key: str, row: ReductionRow) -> Any:
    config = type(shared).from_dict(shared.to_dict())
    if hasattr(shared, "_attn_implementation"):
        config._attn_implementation = shared._attn_implementation
    setattr(config, key, len(row.kept))
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == row.depth and name != "architectures":
            setattr(config, name, [value[index] for index in row.kept])
    return config


def _count_key(config: Any, stack: str) -> str | None:
    """The attribute that counts the layers of ``stack``; None if there is no config or it has no such attribute."""
    if config is None or not hasattr(config, "to_dict"):
        return None
    if getattr(config, "is_encoder_decoder", False):
        keys: tuple[str, ...] = _DECODER if "decoder" in stack.split(".") else _ENCODER
    else:
        keys = ("num_hidden_layers",)
    return next((key for key in keys if hasattr(config, key)), None)
