"""Keep a Hugging Face config true after layers are dropped, so that the saved model can be rebuilt from it."""

from __future__ import annotations

from torch import nn

__all__ = ["shrink_hf_config"]


def shrink_hf_config(model: nn.Module, depth: int, kept: tuple[int, ...]) -> None:
    """Set the layer count of ``model.config`` and shorten every list in it that has one entry per layer.

    The config is replaced by a copy first: the teacher may share the object.
    """
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "num_hidden_layers"):
        return
    shared = config
    config = type(shared).from_dict(shared.to_dict())
    if hasattr(shared, "_attn_implementation"):
        config._attn_implementation = shared._attn_implementation
    config.num_hidden_layers = len(kept)
    for key, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == depth and key != "architectures":
            setattr(config, key, [value[index] for index in kept])
    for module in model.modules():
        if getattr(module, "config", None) is shared:
            module.config = config
