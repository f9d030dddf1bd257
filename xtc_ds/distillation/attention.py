"""An attention function for transformers that lets a listener see queries, keys, values and masks.

Registered as ``"xtc_tap"``. It computes what the model would compute without it, whether or not anyone
listens: the scores that a loss needs are formed later, from the recorded queries and keys. So a layer
under gradient checkpointing is recomputed with exactly the operations of its first run.

Shapes: B batch, H query heads, G key/value heads, Q queries, K keys, D width of a head.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface, PreTrainedModel

from xtc_ds.errors import DistillationError
from xtc_ds.kernels.attention import FUSED_ATTENTION

__all__ = [
    "TAP_NAME",
    "AttentionListener",
    "AttentionRecord",
    "add_listener",
    "disable_attention_tap",
    "enable_attention_tap",
    "remove_listener",
]

TAP_NAME = "xtc_tap"
# Additive masks put -10000 or the dtype's minimum where attention is forbidden; biases stay far above this.
_FORBIDDEN = -5000.0


@dataclass(frozen=True, slots=True)
class AttentionRecord:
    """What one attention layer saw. ``query`` (B, H, Q, D), ``key`` and ``value`` (B, G, K, D; None: not kept).

    ``mask`` broadcasts to (B, H, Q, K): additive, or boolean with True where attention is allowed.
    """

    query: Tensor
    key: Tensor
    value: Tensor | None
    mask: Tensor | None
    scaling: float
    softcap: float | None = None
    bias: Tensor | None = None

    def scores(self) -> Tensor:
        """Pre-softmax scores ``Q K^T * scaling + mask``, (B, H, Q, K) in float32."""
        groups = self.query.shape[1] // self.key.shape[1]
        key_BHKD = self.key.float().repeat_interleave(groups, dim=1) if groups > 1 else self.key.float()
        scores_BHQK = self.query.float() @ key_BHKD.transpose(2, 3) * self.scaling
        if self.softcap is not None:
            scores_BHQK = torch.tanh(scores_BHQK / self.softcap) * self.softcap
        if self.bias is not None:
            scores_BHQK = scores_BHQK + self.bias.float()
        if self.mask is None:
            return scores_BHQK
        mask = self.mask[..., : self.key.shape[2]]
        if mask.dtype == torch.bool:
            return scores_BHQK.masked_fill(~mask, torch.finfo(torch.float32).min)
        return scores_BHQK + mask.float()

    def allowed(self) -> Tensor:
        """(B, 1, Q, K) bool: False where the mask forbids attention in every head."""
        batch, _, queries, _ = self.query.shape
        keys = self.key.shape[2]
        if self.mask is None:
            return torch.ones(batch, 1, queries, keys, dtype=torch.bool, device=self.query.device)
        mask = self.mask[..., :keys]
        open_ = mask if mask.dtype == torch.bool else mask > _FORBIDDEN
        return open_.any(dim=1, keepdim=True).expand(batch, 1, queries, keys)


AttentionListener = Callable[[nn.Module, AttentionRecord], None]
_listeners: list[AttentionListener] = []


def add_listener(listener: AttentionListener) -> None:
    """From now on ``listener(attention_module, record)`` is called at every tapped attention."""
    _listeners.append(listener)


def remove_listener(listener: AttentionListener) -> None:
    """Undo ``add_listener``; unknown listeners are ignored."""
    if listener in _listeners:
        _listeners.remove(listener)


class _TapName(str):
    """The name ``xtc_tap`` that remembers what it replaced, and copies and pickles as that.

    So neither a copied model nor a saved config ever names an implementation that only exists here.
    """

    original: str

    def __new__(cls, original: str) -> _TapName:
        name = super().__new__(cls, TAP_NAME)
        name.original = original
        return name

    def __reduce__(self) -> tuple[type[str], tuple[str]]:  # type: ignore[override]
        return (str, (self.original,))


def enable_attention_tap(model: nn.Module) -> None:
    """Let listeners see the attention of ``model`` until ``disable_attention_tap``; outputs stay the same.

    Raises DistillationError when the model does not call its attention through transformers' interface.
    """
    models = list(_pretrained_models(model))
    if not models:
        raise DistillationError(_no_interface(model, "it is not a transformers model"))
    for part in models:
        current = part.config._attn_implementation
        if isinstance(current, _TapName):
            continue
        try:
            part.set_attn_implementation(_TapName(current or "sdpa"))
        except (ValueError, AttributeError) as error:
            raise DistillationError(_no_interface(part, str(error).splitlines()[0])) from error


def disable_attention_tap(model: nn.Module) -> None:
    """Give back the attention implementation that ``enable_attention_tap`` replaced."""
    for module in model.modules():
        config = getattr(module, "config", None)
        current = getattr(config, "_attn_implementation", None)
        if config is not None and isinstance(current, _TapName):
            config._attn_implementation = current.original


def _pretrained_models(model: nn.Module) -> Iterator[Any]:
    # The outermost ones: set_attn_implementation walks inwards itself.
    if isinstance(model, PreTrainedModel):
        yield model
        return
    for child in model.children():
        yield from _pretrained_models(child)


def _no_interface(model: nn.Module, why: str) -> str:
    return (
        f"the attention of {type(model).__name__} cannot be observed: {why}; "
        'set "attention_weight": 0 to distil without attention'
    )


def _tap_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    if _listeners:
        if kwargs.get("s_aux") is not None:
            raise DistillationError(_no_interface(module, "it has attention sinks"))
        scale = scaling if scaling is not None else query.shape[-1] ** -0.5
        softcap, bias = kwargs.get("softcap"), kwargs.get("position_bias")
        record = AttentionRecord(query, key, value, attention_mask, scale, softcap, bias)
        for listener in tuple(_listeners):
            listener(module, record)
    if _needs_eager(module, kwargs):
        own = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
        if own is not None:
            return own(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)  # type: ignore[no-any-return]
    # The mask holds all there is to mask: without one, nothing is, whatever the module says of itself.
    kwargs["is_causal"] = False
    fused = _replaced(module) == FUSED_ATTENTION and kwargs.get("position_bias") is None
    if fused and attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask > _FORBIDDEN
    function = ALL_ATTENTION_FUNCTIONS[FUSED_ATTENTION if fused else "sdpa"]
    return function(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)  # type: ignore[no-any-return]


def _needs_eager(module: nn.Module, kwargs: dict[str, Any]) -> bool:
    return _replaced(module) == "eager" or bool(kwargs.get("output_attentions")) or kwargs.get("softcap") is not None


def _replaced(module: nn.Module) -> str:
    """The implementation that the tap stands for."""
    current = getattr(getattr(module, "config", None), "_attn_implementation", None)
    return str(getattr(current, "original", "sdpa"))


AttentionInterface.register(TAP_NAME, _tap_attention)
AttentionMaskInterface.register(TAP_NAME, eager_mask)
