"""Select the student's inputs for the teacher, and check the outputs of both models."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from xtc_ds.errors import DistillationError

__all__ = ["check_output", "named_inputs", "takes", "teacher_inputs", "valid_tokens", "with_loss"]

# Labels, caches and options for outputs apply only to the student's call.
_STUDENT_ONLY = {"labels", "past_key_values", "use_cache", "return_dict", "output_attentions", "output_hidden_states"}


def named_inputs(student: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """All inputs of a call of ``student`` by name, including positional ones."""
    if not args:
        return dict(kwargs)
    names = [p.name for p in _parameters(student) if p.kind is p.POSITIONAL_OR_KEYWORD]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def teacher_inputs(teacher: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The student's inputs that the teacher's forward accepts, without labels and caches.

    Raises DistillationError for ``inputs_embeds``, which are in the student's embedding space.
    """
    if inputs.get("inputs_embeds") is not None:
        raise DistillationError("the teacher cannot read inputs_embeds of the student; give input_ids")
    accepted = {p.name for p in _parameters(teacher)}
    given = {k: v for k, v in inputs.items() if k in accepted - _STUDENT_ONLY}
    if "use_cache" in accepted:
        given["use_cache"] = False
    return given


def valid_tokens(inputs: Mapping[str, Any]) -> Tensor | None:
    """(B, L) bool of the tokens that are not padding; None if the call had no attention mask.

    Raises DistillationError for masks of other shapes.
    """
    mask = inputs.get("attention_mask")
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.ndim not in (2, 3):
        shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise DistillationError(f"attention_mask must be (batch, length) to mask out padding; found {shape}")
    # (batch, choices, length) for multiple-choice models, which run batch * choices rows.
    return mask.flatten(0, -2).to(torch.bool)


def with_loss(output: Any, loss: Tensor) -> Any:
    """A copy of the student's output with its loss replaced by ``loss``.

    Raises DistillationError if this kind of output has no loss.
    """
    if isinstance(output, ModelOutput):
        rest = {k: v for k, v in output.items() if k != "loss"}
        try:
            # A new object keeps the order of fields, so that output[0] is the loss.
            return type(output)(loss=loss, **rest)
        except TypeError as error:
            raise DistillationError(
                f"{type(output).__name__} has no loss; give a model with a head, "
                "such as AutoModelForSequenceClassification"
            ) from error
    return {"loss": loss, **{k: v for k, v in output.items() if k != "loss"}}


def check_output(output: Any, whose: str) -> None:
    """Raise DistillationError for anything but a Hugging Face output or a dict."""
    if not isinstance(output, dict):  # a Hugging Face output is a dict, too
        raise DistillationError(
            f"the {whose} returned {type(output).__name__}; distillation needs a Hugging Face output or a dict "
            "(do not set return_dict=False)"
        )


def takes(model: nn.Module, name: str) -> bool:
    """Whether the model's forward has a parameter ``name``."""
    return any(parameter.name == name for parameter in _parameters(model))


def _parameters(model: nn.Module) -> list[inspect.Parameter]:
    # Use the class's forward, because engines wrap the one of the instance.
    parameters = list(inspect.signature(type(model).forward).parameters.values())[1:]
    return [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
