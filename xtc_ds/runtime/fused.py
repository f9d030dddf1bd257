"""BERT-like encoders with attention, GELU and layer normalization on the native kernel.

Results equal those of torch up to float rounding. If the kernel cannot be used (training, tracing, other dtypes, other
processors), the modules run their original forward.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import new_class
from typing import Any

import torch
from torch import Tensor, nn

from xtc_ds.kernels.attention import FUSED_ATTENTION, attend, can_attend
from xtc_ds.kernels.encoder import add_norm_, encoder_kernel_works, gelu_
from xtc_ds.runtime.fused_layer import KEPT, FusedEncoder, FusedLayer, is_gelu, no_whole_layer
from xtc_ds.runtime.packed import PackedLayer

__all__ = ["encoder_layers", "fuse", "unfuse"]

# Classes whose forward is LayerNorm(dropout(dense(x)) + residual). Matched by name, as transformers copies them for
# each model type.
_OUTPUTS = ("SelfOutput", "Output")
_MODELS = ("Bert", "Roberta", "XLMRoberta", "Electra", "Camembert", "BertGeneration")


class _FusedGelu:
    """Mixin for transformers' GELUActivation that runs on the native kernel, in place."""

    def forward(self, x: Tensor) -> Tensor:
        if not _usable(x):
            return nn.functional.gelu(x)
        return gelu_(x)


class _FusedOutput:
    """Mixin for a block's output module: computes the normalized residual sum in place in the linear layer's output."""

    dense: nn.Module
    LayerNorm: nn.LayerNorm
    dropout: nn.Dropout

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        y = self.dense(hidden_states)
        norm = self.LayerNorm
        weight, bias = norm._parameters["weight"], norm._parameters["bias"]
        if (
            (self.dropout.training and self.dropout.p)
            or weight is None
            or bias is None
            or y.shape != input_tensor.shape
            or not _usable(y, input_tensor, weight, bias)
        ):
            result: Tensor = norm(self.dropout(y) + input_tensor)
            return result
        return add_norm_(y, input_tensor, weight, bias, norm.eps)


def _usable(*tensors: Tensor) -> bool:
    return not torch.compiler.is_compiling() and encoder_kernel_works(*tensors)


def fuse(model: nn.Module, kinds: tuple[type[nn.Module], ...] = (PackedLayer,)) -> None:
    """Make an encoder use the native kernel where possible, by changing the classes of modules in place.

    kinds: classes of linear layers whose outputs may be overwritten; modules that follow other layers are not changed.
    """
    for module in list(model.modules()):
        name = type(module).__name__
        if isinstance(getattr(module, "dense", None), kinds):
            if name in [model_type + output for model_type in _MODELS for output in _OUTPUTS]:
                _mix(module, _FusedOutput)
            act = getattr(module, "intermediate_act_fn", None)
            if is_gelu(act):
                _mix(act, _FusedGelu)
    for _, module in list(encoder_layers(model)):  # after their submodules are fused
        if no_whole_layer(module) is None:
            _mix(module, FusedLayer)
    for module in list(model.modules()):
        layers = module._modules.get("layer")
        if (
            type(module).__name__ in [model_type + "Encoder" for model_type in _MODELS]
            and isinstance(layers, nn.ModuleList)
            and all(isinstance(layer, FusedLayer) for layer in layers)
        ):
            _mix(module, FusedEncoder)
    config: Any = getattr(model, "config", None)
    is_encoder = not (getattr(config, "is_decoder", True) or getattr(config, "is_encoder_decoder", True))
    if is_encoder and getattr(config, "_attn_implementation", None) == "sdpa":
        _register()
        model.set_attn_implementation(FUSED_ATTENTION)  # type: ignore[operator]


def encoder_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(name, module) of each layer of BERT-like encoders in ``model``."""
    names = [model_type + "Layer" for model_type in _MODELS]
    for name, module in model.named_modules():
        if type(module).__name__ in names:
            yield name, module


def unfuse(model: nn.Module) -> None:
    """Undo ``fuse``."""
    for module in model.modules():
        if isinstance(module, _FusedGelu | _FusedOutput | FusedLayer | FusedEncoder):
            module.__dict__.pop(KEPT, None)
            module.__class__ = type(module).__bases__[1]
    if getattr(getattr(model, "config", None), "_attn_implementation", None) == FUSED_ATTENTION:
        model.set_attn_implementation("sdpa")  # type: ignore[operator]


def _mix(module: nn.Module, mixin: type) -> None:
    if not isinstance(module, mixin):
        module.__class__ = _mixed(mixin, type(module))


_classes: dict[tuple[type, type], type] = {}


def _mixed(mixin: type, base: type) -> type:
    if (mixin, base) not in _classes:
        # The made class cannot be imported by name, so copies and pickles rebuild it from its two bases.
        body: dict[str, Any] = {"__module__": base.__module__, "__reduce_ex__": _reduce}
        _classes[mixin, base] = new_class(base.__name__, (mixin, base), exec_body=lambda space: space.update(body))
    return _classes[mixin, base]


def _reduce(module: Any, protocol: int) -> tuple[Any, ...]:
    mixin, base = type(module).__bases__
    return _rebuild, (mixin, base), {key: value for key, value in module.__dict__.items() if key != KEPT}


def _rebuild(mixin: type, base: type) -> Any:
    made = _mixed(mixin, base)
    return made.__new__(made)  # type: ignore[call-overload]


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(FUSED_ATTENTION, _attention)
    AttentionMaskInterface.register(FUSED_ATTENTION, sdpa_mask)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    extra = any(kwargs.get(name) is not None for name in ("position_bias", "cache", "softcap"))
    if (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or causal
        or dropout
        or extra
        or not can_attend(query, key, value, attention_mask)
    ):
        result: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **kwargs
        )
        return result
    return attend(query, key, value, attention_mask, query.shape[-1] ** -0.5 if scaling is None else scaling), None
