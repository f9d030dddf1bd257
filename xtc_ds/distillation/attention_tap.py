"""An attention function for transformers that shows queries, keys, values and masks to listeners.

Registered as ``"xtc_tap"``. Its result is that of the model's own implementation, with or without listeners: the scores
that a loss needs are computed later from the recorded queries and keys. So a layer under gradient checkpointing is
recomputed with exactly the operations of its first run.

Shapes: B batch, H query heads, G key/value heads, Q queries, K keys, D width of a head.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface, PreTrainedModel

from xtc_ds.distillation.attention_record import FORBIDDEN, AttentionRecord, current_listeners
from xtc_ds.distillation.loss import switched_off
from xtc_ds.errors import DistillationError
from xtc_ds.kernels.attention import FUSED_ATTENTION

__all__ = [
    "TAP_NAME",
    "check_observable",
    "disable_attention_tap",
    "enable_attention_tap",
]

TAP_NAME = "xtc_tap"


class _TapName(str):
    """The name ``xtc_tap``, which stores the name it replaced, and is copied and pickled as that one.

    Therefore a copied model or a saved config never refers to an implementation that exists only here.
    """

    original: str

    def __new__(cls, original: str) -> _TapName:
        name = super().__new__(cls, TAP_NAME)
        name.original = original
        return name

    def __reduce__(self) -> tuple[type[str], tuple[str]]:  # type: ignore[override]
        return (str, (self.original,))


def enable_attention_tap(model: nn.Module, weight_keys: Sequence[str] = ()) -> None:
    """Show the attention of ``model`` to listeners until ``disable_attention_tap``; outputs stay the same.

    weight_keys: the config keys that have to be 0 to distil without attention, for the error message.

    Raises DistillationError if the model does not call its attention through transformers' interface.
    """
    models = list(_pretrained_models(model))
    if not models:
        raise DistillationError(_no_interface(model, "it is not a transformers model", weight_keys))
    for part in models:
        current = part.config._attn_implementation
        if isinstance(current, _TapName):
            continue
        try:
            part.set_attn_implementation(_TapName(current or "sdpa"))
        except (ValueError, AttributeError) as error:
            raise DistillationError(_no_interface(part, str(error).splitlines()[0], weight_keys)) from error


def disable_attention_tap(model: nn.Module) -> None:
    """Restore the attention implementation that ``enable_attention_tap`` replaced."""
    for module in model.modules():
        config = getattr(module, "config", None)
        current = getattr(config, "_attn_implementation", None)
        if config is not None and isinstance(current, _TapName):
            config._attn_implementation = current.original


def _pretrained_models(model: nn.Module) -> Iterator[Any]:
    # Only the outermost ones, because set_attn_implementation visits inner ones itself.
    if isinstance(model, PreTrainedModel):
        yield model
        return
    for child in model.children():
        yield from _pretrained_models(child)


def _no_interface(model: nn.Module, why: str, weight_keys: Sequence[str]) -> str:
    remedy = f"{switched_off(weight_keys)} to distil without attention"
    return f"the attention of {type(model).__name__} cannot be observed: {why}; {remedy}"


def check_observable(models: Sequence[nn.Module], weight_keys: Sequence[str]) -> None:
    """Raise DistillationError if the attention of any model cannot be observed. The models are left unchanged."""
    try:
        for model in models:
            enable_attention_tap(model, weight_keys)
    finally:
        for model in models:
            disable_attention_tap(model)


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
    if listeners := current_listeners():
        scale = scaling if scaling is not None else query.shape[-1] ** -0.5
        softcap, bias = kwargs.get("softcap"), kwargs.get("position_bias")
        sinks = kwargs.get("s_aux") is not None
        record = AttentionRecord(query, key, value, attention_mask, scale, softcap, bias, sinks)
        for listener in listeners:
            listener(module, record)
    if _needs_eager(module, kwargs):
        own = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
        if own is not None:
            return own(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)  # type: ignore[no-any-return]
    # The mask is complete: without one nothing is masked, whatever the module's ``is_causal`` says.
    kwargs["is_causal"] = False
    fused = _replaced(module) == FUSED_ATTENTION and kwargs.get("position_bias") is None
    if fused and attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask > FORBIDDEN
    function = ALL_ATTENTION_FUNCTIONS[FUSED_ATTENTION if fused else "sdpa"]
    return function(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)  # type: ignore[no-any-return]


def _needs_eager(module: nn.Module, kwargs: dict[str, Any]) -> bool:
    return _replaced(module) == "eager" or bool(kwargs.get("output_attentions")) or kwargs.get("softcap") is not None


def _replaced(module: nn.Module) -> str:
    """The name of the implementation that the tap replaces."""
    current = getattr(getattr(module, "config", None), "_attn_implementation", None)
    return str(getattr(current, "original", "sdpa"))


AttentionInterface.register(TAP_NAME, _tap_attention)
AttentionMaskInterface.register(TAP_NAME, eager_mask)
