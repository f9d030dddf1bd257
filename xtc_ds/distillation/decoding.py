"""Encoder-decoder models: inputs of the teacher's decoder, and masks of the padding on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from xtc_ds.distillation.inputs import takes, valid_tokens
from xtc_ds.errors import DistillationError

__all__ = ["counted_positions", "with_decoder_inputs"]


def counted_positions(
    student: nn.Module, stack: nn.ModuleList, inputs: Mapping[str, Any]
) -> tuple[Tensor | None, Tensor | None]:
    """Masks of positions without padding, (B, L) bool or None for all: (of the logits, of the states in ``stack``)."""
    tokens = valid_tokens(inputs)
    if not _decodes(student):
        return tokens, tokens
    targets = _target_tokens(inputs, tokens)
    decoder = student.get_decoder()  # type: ignore[operator]
    return targets, targets if any(module is stack for module in decoder.modules()) else tokens


def with_decoder_inputs(student: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
    """Add the decoder inputs to ``inputs``, if the student's forward would derive them from the labels.

    The teacher gets no labels, so it needs the decoder inputs that the student would derive. Raises DistillationError
    if the student has no method for that.
    """
    given = inputs.get("decoder_input_ids"), inputs.get("decoder_inputs_embeds")
    labels = _sequence_labels(inputs)
    if not _decodes(student) or labels is None or any(value is not None for value in given):
        return inputs
    shift = getattr(student, "prepare_decoder_input_ids_from_labels", None)
    if shift is None:
        raise DistillationError(
            f"{type(student).__name__} makes its decoder's inputs from the labels, which the teacher does not get; "
            "put decoder_input_ids into the batch"
        )
    return {**inputs, "decoder_input_ids": shift(labels)}


def _decodes(model: nn.Module) -> bool:
    whole = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    return bool(whole) and takes(model, "decoder_input_ids") and hasattr(model, "get_decoder")


def _target_tokens(inputs: Mapping[str, Any], tokens: Tensor | None) -> Tensor | None:
    labels = _sequence_labels(inputs)
    if labels is not None:
        return labels != -100
    mask = inputs.get("decoder_attention_mask")
    if mask is not None:
        return valid_tokens({"attention_mask": mask})
    # Classifiers pass the input to the decoder, too.
    return tokens if inputs.get("decoder_input_ids") is None else None


def _sequence_labels(inputs: Mapping[str, Any]) -> Tensor | None:
    labels = inputs.get("labels")
    sequences = isinstance(labels, Tensor) and labels.ndim == 2 and not labels.is_floating_point()
    return labels if sequences else None
