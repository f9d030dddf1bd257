"""Find out why a module cannot be compressed."""

from __future__ import annotations

from torch import nn

from xtc_ds.layer_kinds import LayerKind, layer_kind_of, looks_like_a_layer
from xtc_ds.plan.direct_use import reads_weight_of
from xtc_ds.zero import full_numel

__all__ = ["refusal"]


def refusal(name: str, module: nn.Module, modules: dict[str, nn.Module]) -> str | None:
    """The reason why a module that looks like a weight layer must not be compressed; None if there is none.

    A subclass may compute something else than its base class, and some parents use a child's weight without calling the
    child. Compressing such a module would silently have no effect or a wrong one.
    """
    if hasattr(module, "weight_transforms"):
        return "is compressed already"
    is_like_one = looks_like_a_layer(module)
    parent_name, _, own_name = name.rpartition(".")
    ancestors = [modules[parent_name]] if parent_name in modules else []
    for parent in ancestors:
        if isinstance(parent, nn.MultiheadAttention) and is_like_one:
            return "is never called: nn.MultiheadAttention uses its weight directly; exclude it"
        if isinstance(parent, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)) and is_like_one:
            return f"is bypassed in evaluation by the fast path of nn.{type(parent).__name__}; exclude it"
    kind = layer_kind_of(module)
    if kind is None:
        return f"is a {type(module).__name__}, whose own forward would be lost; exclude it" if is_like_one else None
    for parent in ancestors:
        if reader := reads_weight_of(parent, own_name):
            return f"has its weight read directly by {reader}; exclude it"
    # In vision models, a module several levels up may cast its input to the dtype of the first convolution.
    if kind.operation == "convolution" and (reader := _reader_above(name, modules)):
        return f"has its weight read directly by {reader}; exclude it"
    return _peculiarity(module, kind)


def _reader_above(name: str, modules: dict[str, nn.Module]) -> str | None:
    parts = name.split(".")
    for depth in range(len(parts) - 1):
        above = modules.get(".".join(parts[:depth]))
        if above is not None and (reader := reads_weight_of(above, ".".join(parts[depth:]))):
            return reader
    return None


def _peculiarity(module: nn.Module, kind: LayerKind) -> str | None:
    if "forward" in vars(module):
        what = "has a forward of its own on the instance (accelerate's device_map sets one), which would bypass this"
        return f"{what}; remove it, or exclude the module"
    if kind.operation == "norm":
        return None  # may lack a weight (affine=False)
    weight = module._parameters.get("weight")
    if weight is None:
        return "has a weight that a hook computes (weight_norm, prune); make it a parameter again, or exclude it"
    if full_numel(weight) == 0:
        return "has an empty weight; exclude it"
    if getattr(module, "max_norm", None) is not None:
        return "renormalizes its table as it looks rows up (max_norm); exclude it"
    return None
