"""Which modules can be compressed, and why the others cannot."""

from __future__ import annotations

from torch import nn

from xtc_ds.plan.direct_use import reads_weight_of
from xtc_ds.plan.names import full_numel
from xtc_ds.plan.rows import Kind

__all__ = ["kind_of", "refusal"]


def kind_of(module: nn.Module) -> Kind | None:
    """The kind of a module whose forward is known; None for everything else, subclasses included."""
    if type(module) is nn.Linear:
        return "Linear"
    if type(module) is nn.Embedding:
        return "Embedding"
    if type(module) is nn.Conv2d:
        return "Conv2d"
    if type(module) is nn.BatchNorm2d:
        return "BatchNorm2d"
    if type(module).__module__ == "transformers.pytorch_utils" and type(module).__name__ == "Conv1D":
        return "Conv1D"
    return None


def refusal(name: str, module: nn.Module, modules: dict[str, nn.Module]) -> str | None:
    """Why a module that looks like a weight layer must not be touched; None if there is no such reason.

    A subclass may compute something else than its base, and some parents use a child's weight
    without calling it: compressing those would silently do nothing, or the wrong thing.
    """
    looks_like_a_layer = isinstance(module, (nn.Linear, nn.Embedding, nn.Conv2d))
    if hasattr(module, "weight_rule"):
        return "is compressed already"
    parent_name, _, own_name = name.rpartition(".")
    ancestors = [modules[parent_name]] if parent_name in modules else []
    for parent in ancestors:
        if isinstance(parent, nn.MultiheadAttention) and looks_like_a_layer:
            return "is never called: nn.MultiheadAttention uses its weight directly; exclude it"
        if isinstance(parent, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)) and looks_like_a_layer:
            return f"is bypassed in evaluation by the fast path of nn.{type(parent).__name__}; exclude it"
    if looks_like_a_layer and kind_of(module) is None:
        return f"is a {type(module).__name__}, whose own forward would be lost; exclude it"
    if kind_of(module) is None:
        return None
    for parent in ancestors:
        if reader := reads_weight_of(parent, own_name):
            return f"has its weight read directly by {reader}; exclude it"
    # Vision models cast their input to the dtype of the first convolution, from further up.
    if isinstance(module, nn.Conv2d) and (reader := _reader_above(name, modules)):
        return f"has its weight read directly by {reader}; exclude it"
    return _peculiarity(module)


def _reader_above(name: str, modules: dict[str, nn.Module]) -> str | None:
    parts = name.split(".")
    for depth in range(len(parts) - 1):
        above = modules.get(".".join(parts[:depth]))
        if above is not None and (reader := reads_weight_of(above, ".".join(parts[depth:]))):
            return reader
    return None


def _peculiarity(module: nn.Module) -> str | None:
    if "forward" in vars(module):
        what = "has a forward of its own on the instance (accelerate's device_map sets one), which would bypass this"
        return f"{what}; remove it, or exclude the module"
    if isinstance(module, nn.BatchNorm2d):
        return None  # may lack a weight (affine=False)
    weight = module._parameters.get("weight")
    if weight is None:
        return "has a weight that a hook computes (weight_norm, prune); make it a parameter again, or exclude it"
    if full_numel(weight) == 0:
        return "has an empty weight; exclude it"
    if getattr(module, "max_norm", None) is not None:
        return "renormalizes its table as it looks rows up (max_norm); exclude it"
    return None
