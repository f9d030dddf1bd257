"""``freeze``: from a trained model to the one that is shipped."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from xtc_ds.clone import clone_model
from xtc_ds.errors import ExportError
from xtc_ds.export.packed import PackedLayer, PackedSpec, build_packed, share_packed_tensors
from xtc_ds.export.quantization_config import describe_packed
from xtc_ds.formats import Grouping
from xtc_ds.layers import CompressedLayer
from xtc_ds.plan.names import full_shape
from xtc_ds.plan.rows import WeightRow
from xtc_ds.zero import gathered

__all__ = ["freeze", "is_frozen"]

_FLOATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def freeze(model: Any, float_dtype: str | None = None) -> nn.Module:
    """The model as it will be shipped: packed codes, schedules at their end, floats rounded as stored.

    model: a compressed model, or the engine that trains it (any ZeRO stage; then a call for all ranks). It is
        not touched: the result is a new model on the CPU in evaluation mode, and training can go on.
    float_dtype: "float32", "float16" or "bfloat16", how scales and leftover floats are stored; by default
        what the config's ``export`` block says.

    A frozen model is returned as it is. Raises ExportError where a value does not fit ``float_dtype``, where a
    static activation range has never seen an input, and for a frozen model that stores another ``float_dtype``.
    """
    module = unwrap(model)
    dtype_name = float_dtype or _planned_dtype(module)
    if dtype_name not in _FLOATS:
        raise ExportError(f"float_dtype: found {dtype_name!r}; allowed: {', '.join(_FLOATS)}")
    if is_frozen(module):
        if dtype_name != _planned_dtype(module):
            raise ExportError(
                f"the model is frozen for {_planned_dtype(module)}; freeze the trained model again for {dtype_name}"
            )
        return module
    frozen = _Freezer(dtype_name).run(module)
    # A copy of the config: the training model keeps its own.
    config = getattr(module, "config", None)
    if config is not None and hasattr(config, "to_dict"):
        _replace_config(frozen, config, copy.deepcopy(config))
        frozen.config.quantization_config = describe_packed(frozen, dtype_name)  # type: ignore[union-attr]
    frozen.xtc_float_dtype = dtype_name  # type: ignore[assignment]
    return frozen.eval()


def is_frozen(model: nn.Module) -> bool:
    """Whether the model holds packed layers."""
    return any(isinstance(module, PackedLayer) for module in model.modules())


def unwrap(model: Any) -> nn.Module:
    """The model itself, out of a DeepSpeed engine, a data-parallel wrapper or ``torch.compile``."""
    from deepspeed import DeepSpeedEngine

    while isinstance(model, (DeepSpeedEngine, nn.parallel.DistributedDataParallel, nn.DataParallel)):
        model = model.module
    return getattr(model, "_orig_mod", model)  # type: ignore[no-any-return]


class _Freezer:
    def __init__(self, float_dtype: str) -> None:
        self.float_dtype = _FLOATS[float_dtype]
        self.packed: dict[tuple[int, str | None, Grouping], PackedLayer] = {}
        self.names: dict[int, str] = {}
        self.parameters: dict[int, nn.Parameter] = {}

    def run(self, model: nn.Module) -> nn.Module:
        self.names = {id(p): name for name, p in [*model.named_parameters(), *model.named_buffers()]}
        skip = "xtc_projection"
        with torch.no_grad():
            return clone_model(model, self.tensor, self.replace, lambda name: name.split(".")[0] == skip)

    def tensor(self, old: Tensor, stored: bool) -> Tensor:
        """A copy on the CPU in the dtype of the original, rounded if the file holds it."""
        if id(old) in self.parameters:
            return self.parameters[id(old)]
        with gathered([old]):
            value = old.detach().cpu().clone()
        if stored and value.is_floating_point():
            value = self.rounded(value, self.names.get(id(old), ""))
        if isinstance(old, nn.Parameter):
            # Shared by several modules: all get the same one.
            self.parameters[id(old)] = value = nn.Parameter(value, requires_grad=False)
        return value

    def rounded(self, value: Tensor, name: str) -> Tensor:
        stored = value.to(self.float_dtype)
        if bool((stored.isinf() & ~value.isinf()).any()):
            raise ExportError(
                f"{name}: values up to {float(value.abs().max()):.4g} do not fit {self.float_dtype}; "
                'set "export": {"float_dtype": "bfloat16"} or "float32"'
            )
        return stored.to(value.dtype)

    def replace(self, name: str, module: nn.Module) -> nn.Module | None:
        if not isinstance(module, CompressedLayer):
            return None
        assert isinstance(module, nn.Module)
        spec = _spec(module)
        weight: Tensor = module.weight  # type: ignore[assignment]
        bias = getattr(module, "bias", None)
        layer = build_packed(
            spec, bias=bias is not None, padding_idx=getattr(module, "padding_idx", None), dtype=weight.dtype
        )
        self._fill_weight(layer, module.weight_rule, weight, name, transposed=hasattr(module, "nf"))
        if bias is not None:
            layer._parameters["bias"] = self.tensor(bias, True)  # type: ignore[assignment]
        if hasattr(module, "activation_quantizer"):
            if not module.activation_quantizer.calibrated:  # type: ignore[union-attr]
                raise ExportError(
                    f"{name}: its static activation range has seen no input, so it cannot be shipped; train first, "
                    'exclude the module if training never calls it, or set "range_calibration": "dynamic"'
                )
            observed = self.tensor(module.activation_quantizer.x_min_max, True)  # type: ignore[union-attr, arg-type]
            layer.activation_quantizer.x_min_max.copy_(observed)  # type: ignore[union-attr, operator]
        return layer

    def _fill_weight(
        self, layer: PackedLayer, rule: WeightRow | None, weight: Tensor, name: str, transposed: bool
    ) -> None:
        # Tied weights: the second layer shares the first one's buffers.
        twin = self.packed.setdefault((id(weight), layer.spec.format, layer.spec.grouping), layer)
        if twin is not layer:
            share_packed_tensors(layer, twin)
            return
        if rule is None:
            whole = self.tensor(weight, True)
            layer._parameters["weight"] = nn.Parameter(whole.t().contiguous(), False) if transposed else whole  # type: ignore[assignment]
            return
        with gathered([weight]):
            w_OI = weight.detach().t() if transposed else weight.detach()
            encoded = rule.target_format.encode(rule.grouping.split(w_OI))
        if not bool(encoded.scale.isfinite().all()):
            raise ExportError(f"{name}.weight holds NaN or infinite values; it cannot be packed")
        layer.weight.copy_(rule.target_format.pack(encoded.codes).cpu())
        layer.weight_scale.copy_(self.rounded(encoded.scale.flatten().cpu(), f"{name}.weight_scale"))
        if encoded.zero is not None:
            assert layer.weight_zero is not None
            layer.weight_zero.copy_(self.rounded(encoded.zero.flatten().cpu(), f"{name}.weight_zero"))


def _spec(module: nn.Module) -> PackedSpec:
    assert isinstance(module, CompressedLayer)
    weight, activation = module.weight_rule, module.activation_rule
    kind = "embedding" if isinstance(module, nn.Embedding) else "linear"
    if weight is not None:
        shape, name, grouping = weight.shape, weight.target_format.name, weight.grouping
    else:
        assert activation is not None
        stored = full_shape(module.weight)  # type: ignore[arg-type]
        shape = (stored[1], stored[0]) if activation.kind == "Conv1D" else (stored[0], stored[1])
        name, grouping = None, Grouping("tensor")
    return PackedSpec(kind, name, grouping, shape, activation.format if activation else None)  # type: ignore[arg-type]


def _planned_dtype(model: nn.Module) -> str:
    return getattr(model, "xtc_float_dtype", "float32")


def _replace_config(model: nn.Module, old: Any, new: Any) -> None:
    for module in model.modules():
        if getattr(module, "config", None) is old:
            module.config = new
