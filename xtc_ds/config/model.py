"""What a ``compression_training`` block says, as frozen dataclasses.

Field names are the JSON keys. The defaults here equal those of ``schema.json``
(a test compares them). A technique that is absent or disabled is ``None`` or ``()``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from xtc_ds.errors import Problem

__all__ = [
    "ActivationGroup",
    "AttentionType",
    "BackwardDtype",
    "CompressionConfig",
    "Distillation",
    "DistillationCache",
    "Export",
    "FloatDtype",
    "Format",
    "Granularity",
    "LayerReduction",
    "PruningMethod",
    "QuantizationType",
    "RangeCalibration",
    "Rounding",
    "Runtime",
    "SparseGroup",
    "StructuredGroup",
    "TeacherDtype",
    "WeightGroup",
]

QuantizationType = Literal["symmetric", "asymmetric"]
Granularity = Literal["auto", "tensor", "row"]
Format = Literal["auto", "binary", "ternary", "integer"]
RangeCalibration = Literal["dynamic", "static"]
Rounding = Literal["nearest", "stochastic"]
PruningMethod = Literal["l1", "topk", "snip_momentum"]
AttentionType = Literal["scores", "probabilities", "relations"]
FloatDtype = Literal["float32", "float16", "bfloat16"]
BackwardDtype = Literal["float32", "bfloat16"]
TeacherDtype = Literal["float32", "float16", "bfloat16", "int8"]
DistillationCache = Literal["none", "logits"]


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightGroup:
    """One group of ``weight_quantization``; bits are 1, 1.58 (ternary) or whole numbers.

    ``path`` is the JSON key path of the group, for messages. ``schedule_offset`` and
    ``quantization_period`` count applied optimizer steps.
    """

    name: str
    path: str
    modules: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    optional: bool = False
    start_bits: float
    target_bits: float
    quantization_period: int = 1
    schedule_offset: int = 0
    quantize_groups: int = 1
    quantization_type: QuantizationType = "symmetric"
    granularity: Granularity = "auto"
    format: Format = "auto"
    rounding: Rounding = "nearest"
    # quantize_change_ratio of an enabled fp16_mixed_quantize; None: no mixing.
    quantize_change_ratio: float | None = None
    quantize_weight_in_forward: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivationGroup:
    """One group of ``activation_quantization``: the inputs of the matched layers get ``bits`` bits."""

    name: str
    path: str
    modules: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    optional: bool = False
    bits: int
    quantization_type: QuantizationType = "symmetric"
    range_calibration: RangeCalibration = "dynamic"
    schedule_offset: int = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseGroup:
    """One group of ``sparse_pruning``: single weights, or blocks of them, become zero.

    ``dense_ratio`` is the share that stays. ``block_pattern`` is "RxC" (blocks of R outputs by C inputs), "N:M"
    (N of M neighbouring inputs stay) or None for single weights. ``schedule_offset_end`` and
    ``schedule_offset_stride`` count applied optimizer steps; the end is None where the sparsity does not rise
    step by step.
    """

    name: str
    path: str
    modules: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    optional: bool = False
    dense_ratio: float
    method: PruningMethod = "l1"
    schedule_offset: int = 1000
    schedule_offset_end: int | None = None
    schedule_offset_stride: int = 1
    block_pattern: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StructuredGroup:
    """One group of ``row_pruning``, ``head_pruning`` or ``channel_pruning``: whole rows, heads, channels go.

    ``related_modules`` has one tuple of patterns for each pattern of ``modules``: what loses the matching inputs
    (for heads: outputs), so that both shrink when the model is frozen; None: pruned parts stay as zeros.
    ``num_heads`` is set for ``head_pruning`` only.
    """

    name: str
    path: str
    modules: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    optional: bool = False
    dense_ratio: float
    method: PruningMethod = "l1"
    schedule_offset: int = 1000
    related_modules: tuple[tuple[str, ...], ...] | None = None
    num_heads: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerReduction:
    """Which layers of the teacher the student starts from; ``teacher_layer`` counts from 0.

    Exactly one of ``keep_number_layer``, ``keep_ratio`` and ``teacher_layer`` is set, except
    that ``keep_number_layer`` may stand beside a ``teacher_layer`` of that length.
    ``None`` for the prefix or the other modules means: found in the model.
    """

    path: str = "compression_training.layer_reduction"
    keep_number_layer: int | None = None
    keep_ratio: float | None = None
    module_name_prefix: str | None = None
    teacher_layer: tuple[int, ...] | None = None
    other_module_name: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Distillation:
    """The ``kd`` block: what the student learns from the teacher, and how much each part weighs."""

    path: str = "compression_training.kd"
    teacher: str | None = None
    teacher_dtype: TeacherDtype | None = None
    temperature: float = 1.0
    hard_label_weight: float = 0.0
    logits_weight: float = 1.0
    hidden_weight: float = 1.0
    attention_weight: float = 1.0
    attention_type: AttentionType = "scores"
    layer_map: tuple[int, ...] | None = None
    module_name_prefix: str | None = None
    cache: DistillationCache = "none"
    cache_folder: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """How the packed checkpoint stores what is not quantized (biases, norms, scales)."""

    float_dtype: FloatDtype = "float32"


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """How the model computes while training."""

    integer_forward: bool = True
    backward_dtype: BackwardDtype | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CompressionConfig:
    """A whole validated block. ``warnings`` are remarks that did not stop it; ``raw`` is its JSON."""

    layer_reduction: LayerReduction | None = None
    weight_quantization: tuple[WeightGroup, ...] = ()
    activation_quantization: tuple[ActivationGroup, ...] = ()
    sparse_pruning: tuple[SparseGroup, ...] = ()
    row_pruning: tuple[StructuredGroup, ...] = ()
    head_pruning: tuple[StructuredGroup, ...] = ()
    channel_pruning: tuple[StructuredGroup, ...] = ()
    kd: Distillation | None = None
    export: Export = field(default_factory=Export)
    runtime: Runtime = field(default_factory=Runtime)
    warnings: tuple[Problem, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The block as it was given, as a new plain ``dict``."""
        return copy.deepcopy(dict(self.raw))
