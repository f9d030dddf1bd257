"""What ``benchmarks.train_step`` compares: a case is a way to train; it gives a function that takes one step.

A case is written ``method[.bf16][.fake][.kd | .logits]``: ``w1a8.bf16.kd`` trains 1-bit weights and 8-bit inputs under
bfloat16 autocast with one-stage distillation; ``fake`` switches the integer forward off; ``bf16teacher`` and
``int8teacher`` give the teacher a type of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.train_step.models import Shape, build_model

__all__ = ["METHODS", "Case", "block", "build_step", "compress_here"]

Step = Callable[[dict[str, Tensor]], float]
# Bits of the weights; None: not compressed.
METHODS: dict[str, float | None] = {
    "plain": None,
    "w1a8": 1,
    "ternary-a8": 1.58,
    "int8": 8,
    "deepspeed": 1,
    "torchao": 8,
}
_HEADS = r"^(classifier|score)$"
_TABLES = r"(^|\.)(word_embeddings|wte)$"
_OTHER_TABLES = r"(^|\.)(position_embeddings|token_type_embeddings|wpe)$"
_RATE = 5e-5
_WORDS = {"bf16", "fake", "bf16backward", "kd", "logits", "bf16teacher", "int8teacher"}


@dataclass(frozen=True)
class Case:
    """One case, taken apart. kd: "kd", "logits" or ""."""

    name: str

    def __post_init__(self) -> None:
        method, *rest = self.name.split(".")
        if method not in METHODS or not set(rest) <= _WORDS:
            known = ", ".join(METHODS)
            raise SystemExit(f"case {self.name}: the method is one of {known}; see benchmarks/train_step/cases.py")

    @property
    def method(self) -> str:
        """The first word."""
        return self.name.split(".")[0]

    def has(self, word: str) -> bool:
        """Whether the case is written with ``word``."""
        return word in self.name.split(".")[1:]

    @property
    def distils(self) -> bool:
        """Whether there is a teacher."""
        return self.has("kd") or self.has("logits")


def block(case: Case) -> dict[str, Any]:
    """The ``compression_training`` block of a case: all linear layers and the word embeddings, one scale per row."""
    bits, shared = METHODS[case.method], {"enabled": True, "schedule_offset": 0}
    runtime: dict[str, Any] = {"integer_forward": not case.has("fake")}
    if case.has("bf16backward"):
        runtime["backward_dtype"] = "bfloat16"
    result: dict[str, Any] = {"runtime": runtime}
    if bits is not None:
        weights = {"params": {"start_bits": bits, "target_bits": bits}, "exclude": [_HEADS, _OTHER_TABLES]}
        inputs = {"params": {"bits": 8}, "exclude": [_HEADS, _TABLES, _OTHER_TABLES]}
        result["weight_quantization"] = {
            "shared_parameters": {**shared, "granularity": "row"},
            "different_groups": {"all": {"modules": ["*"], **weights}},
        }
        result["activation_quantization"] = {
            "shared_parameters": {**shared, "range_calibration": "dynamic"},
            "different_groups": {"all": {"modules": ["*"], **inputs}},
        }
    if case.distils:
        layers = 1.0 if case.has("kd") else 0.0
        result["kd"] = {"enabled": True, "hidden_weight": layers, "attention_weight": layers}
        for word, dtype in (("bf16teacher", "bfloat16"), ("int8teacher", "int8")):
            if case.has(word):
                result["kd"]["teacher_dtype"] = dtype
    return result


def build_step(case: Case, shape: Shape) -> tuple[Step, nn.Module]:
    """A function of a batch that does forward, backward and a step of AdamW, and returns the loss; and its model."""
    model, teacher = build_model(shape), build_model(shape, seed=1) if case.distils else None
    losses: Callable[[dict[str, Tensor]], Tensor] | None = None
    if case.method == "deepspeed":
        from benchmarks.train_step.rivals import compress_with_deepspeed, distil_by_outputs

        compress_with_deepspeed(model)
        losses = None if teacher is None else distil_by_outputs(model, teacher, case.has("kd"))
    elif case.method == "torchao":
        from benchmarks.train_step.rivals import compress_with_torchao

        compress_with_torchao(model)
    elif case.method != "plain" or case.distils:
        compress_here(model, case, teacher)
    model.train()
    forward = losses or (lambda batch: model(**batch).loss)
    # Made anew: compression may have added parameters.
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, fused=True)
    return lambda batch: _step(forward, optimizer, batch, case.has("bf16")), model


def compress_here(model: nn.Module, case: Case, teacher: nn.Module | None) -> None:
    """Rewrite the model as the case says, with the distillation loss on top if it distils."""
    from xtc_ds.config import parse_block
    from xtc_ds.engine.rehearsal import rehearse

    rehearse(model, parse_block(block(case)), teacher).carry_out()


def _step(
    forward: Callable[[dict[str, Tensor]], Tensor],
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
    half: bool,
) -> float:
    with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
        loss = forward(batch)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return float(loss)
