"""Whole layers of BERT-like encoders, and whole encoders, in one call of the native kernel.

The submodules are checked on every call. If one of them has hooks, is in training mode, was replaced or holds something
that the kernel does not support, the layer runs module by module.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from xtc_ds.kernels.attention import FUSED_ATTENTION
from xtc_ds.kernels.backend import Inputs
from xtc_ds.kernels.backends import ENCODER
from xtc_ds.kernels.backends.encoder import EncoderSpec
from xtc_ds.kernels.choose import choose
from xtc_ds.kernels.encoder import encoder_kernel_works
from xtc_ds.kernels.native import EncoderLayer, run_layers
from xtc_ds.runtime.linear import PackedLinear

__all__ = ["KEPT", "FusedEncoder", "FusedLayer", "encoder_spec", "is_gelu", "no_whole_layer"]

# Attribute in which a layer caches the bound kernel layer; it is neither copied nor saved.
KEPT = "_xtc_ds_native"
# With fewer tokens, running module by module is faster; with more keys, the kernel needs too much memory.
_FEWEST_TOKENS, _MOST_KEYS = 16, 1024
# Paths of submodules: linear layers, layer norms, attention and activation, and others that must be without hooks.
_LINEARS = (
    ("attention", "self", "query"), ("attention", "self", "key"), ("attention", "self", "value"),
    ("attention", "output", "dense"), ("intermediate", "dense"), ("output", "dense"),
)  # fmt: skip
_NORMS = (("attention", "output", "LayerNorm"), ("output", "LayerNorm"))
_ATTENTION, _ACTIVATION = ("attention", "self"), ("intermediate", "intermediate_act_fn")
_OTHERS = (
    ("attention",), ("attention", "self", "dropout"), ("attention", "output"), ("attention", "output", "dropout"),
    ("intermediate",), ("output",), ("output", "dropout"),
)  # fmt: skip
_EXTRAS = ("position_bias", "cache", "softcap")


class FusedLayer:
    """Mixin for an encoder layer: runs it in one call of the kernel if possible."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> Any:
        if encoder_hidden_states is None and past_key_values is None and _fits(hidden_states, attention_mask, kwargs):
            layer = _native(self)
            if layer is not None and encoder_kernel_works(hidden_states):
                return run_layers([layer], hidden_states, attention_mask)
        return super().forward(  # type: ignore[misc]
            hidden_states, attention_mask, encoder_hidden_states, encoder_attention_mask, past_key_values, **kwargs
        )


class FusedEncoder:
    """Mixin for the stack of encoder layers: runs all of them in one call of the kernel if possible."""

    layer: nn.ModuleList

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        found = None
        if encoder_hidden_states is None and past_key_values is None and _fits(hidden_states, attention_mask, kwargs):
            found = _all_native(self.layer)
        if not found or not encoder_kernel_works(hidden_states):
            return super().forward(  # type: ignore[misc]
                hidden_states, attention_mask, encoder_hidden_states, encoder_attention_mask, past_key_values,
                use_cache, **kwargs,
            )  # fmt: skip
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        y = run_layers(found, hidden_states, attention_mask)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=y)  # type: ignore[arg-type]


def no_whole_layer(layer: nn.Module) -> str | None:
    """Why the kernel does not support the structure of a layer; None if it does."""
    try:
        linears, norms = [_part(layer, path) for path in _LINEARS], [_part(layer, path) for path in _NORMS]
        act, *_ = [_part(layer, path) for path in (_ACTIVATION, *_OTHERS)]
    except (KeyError, TypeError):
        return "it has other parts than a layer of BERT"
    if not all(isinstance(linear, PackedLinear) for linear in linears):
        return "not all of its linear layers are packed"
    if not all(type(norm) is nn.LayerNorm and len(norm.normalized_shape) == 1 for norm in norms):
        return "it does not normalize by nn.LayerNorm"
    if not is_gelu(act):
        return "its activation is not GELU"
    return "it is a layer of a decoder" if getattr(layer, "is_decoder", True) else None


def encoder_spec(layer: nn.Module) -> EncoderSpec:
    """The kernel specification of a layer; ``no_whole_layer`` must have returned None."""
    linears = tuple(_part(layer, path).spec.product() for path in _LINEARS)
    return EncoderSpec(linears, _part(layer, _ATTENTION).num_attention_heads)


def is_gelu(act: Any) -> TypeGuard[nn.Module]:
    """Whether a module is transformers' exact (not approximated) GELU, original or fused."""
    named = isinstance(act, nn.Module) and type(act).__name__ == "GELUActivation"
    return named and getattr(act, "act", None) is nn.functional.gelu


def _part(layer: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        layer = layer._modules[name]
    return layer


def _fits(x: Tensor, mask: Tensor | None, kwargs: dict[str, Any]) -> bool:
    """Whether the kernel supports this input and mask, nothing is being compiled, and no global hooks are set."""
    if torch.compiler.is_compiling() or x.dim() != 3 or torch_module._has_any_global_hook():  # type: ignore[no-untyped-call]
        return False
    B, T, _ = x.shape
    if T > _MOST_KEYS or B * T < _FEWEST_TOKENS or any(kwargs.get(name) is not None for name in _EXTRAS):
        return False
    return mask is None or (
        type(mask) is Tensor
        and mask.dtype == torch.bool
        and mask.device.type == "cpu"
        and mask.dim() == 4
        and mask.shape[0] in (1, B)
        and mask.shape[1] == 1
        and mask.shape[2] in (1, T)
        and mask.shape[3] == T
    )


def _all_native(layers: nn.ModuleList) -> list[EncoderLayer] | None:
    found: list[EncoderLayer] = []
    for layer in layers._modules.values():
        native = None if not isinstance(layer, FusedLayer) or _is_watched(layer) else _native(layer)
        if native is None or (found and found[0].width != native.width):
            return None
        found.append(native)
    return found


def _native(layer: Any) -> EncoderLayer | None:
    """The bound kernel layer, cached; None if the kernel cannot or must not compute this layer now."""
    linears, norms = [_part(layer, path) for path in _LINEARS], [_part(layer, path) for path in _NORMS]
    others = [_part(layer, path) for path in _OTHERS]
    attention = _part(layer, _ATTENTION)
    act = _part(layer, _ACTIVATION)
    if (
        layer.training
        or any(_is_watched(module) for module in (*linears, *norms, *others, act))
        # transformers' own hook only collects attention weights, which the fused attention does not return anyway.
        or _is_watched(attention, "transformers.utils.output_capturing")
        or attention.config._attn_implementation != FUSED_ATTENTION
        or attention.is_causal
        or any(type(linear) is not PackedLinear for linear in linears)
    ):
        return None
    values = tuple(norm._parameters[name] for norm in norms for name in ("weight", "bias"))
    if any(value is None for value in values) or not encoder_kernel_works(*values):
        return None
    tiled = tuple(linear.tiled() for linear in linears)
    key = (
        *map(id, tiled), *(value.data_ptr() for value in values), attention.num_attention_heads, attention.scaling,
        norms[0].eps, norms[1].eps,
    )  # fmt: skip
    kept: tuple[Any, Any, EncoderLayer | None] | None = layer.__dict__.get(KEPT)
    if kept is None or kept[0] != key:
        heads, native = attention.num_attention_heads, None
        spec = encoder_spec(layer)
        bound = choose(ENCODER, spec, Inputs(torch.device("cpu"))).backend.bind(spec)
        if bound is not None and None not in tiled and bound.shares_input(tiled):
            native = bound(tiled, values, heads, attention.scaling, (norms[0].eps, norms[1].eps))
        # The key contains ids of these objects; keeping them alive ensures that no other object gets the same id.
        kept = layer.__dict__[KEPT] = (key, tiled, native)
    return kept[2]


def _is_watched(module: nn.Module, but_by: str = "") -> bool:
    """Whether a module is in training mode or has hooks, so that its own forward must run.

    but_by: module name of forward hooks that are ignored.
    """
    if module.training or module._forward_pre_hooks:
        return True
    return any(getattr(hook, "__module__", "") != but_by for hook in module._forward_hooks.values())
