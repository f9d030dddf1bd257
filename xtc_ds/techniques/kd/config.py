"""The block's ``kd``: distillation from a teacher."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from xtc_ds.config.json_value import Finding
from xtc_ds.config.keys import key, keys_from, keys_of
from xtc_ds.config.pieces import Piece
from xtc_ds.config.plain_sections import SwitchedSection
from xtc_ds.config.section import register_section
from xtc_ds.config.written import Written
from xtc_ds.distillation.loss import DistillationLoss, weight
from xtc_ds.distillation.registry import distillation_losses
from xtc_ds.techniques.kd.migrate import migrate_kd

__all__ = ["KD", "Distillation", "DistillationCache", "TeacherDtype"]

TeacherDtype = Literal["float32", "float16", "bfloat16", "int8"]
DistillationCache = Literal["none", "logits"]


@dataclass(frozen=True, kw_only=True)
class Distillation(Piece):
    """The ``kd`` block: the distillation losses and their weights.

    losses: all registered losses, including those of weight 0; their keys are keys of the ``kd`` block.
    """

    path: str = "compression_training.kd"
    teacher: str | None = key(
        'Folder or hub id of the teacher, or "self" for the uncompressed model itself. null: given by the caller.',
        None,
        examples=("self", "bert-base-uncased"),
        aliases=("teacher_model", "teacher_path"),
    )
    teacher_dtype: TeacherDtype | None = key(
        "Type that the teacher's forward runs in; a copy of the teacher is converted. int8: all but the head has 8-bit "
        "weights (a scale per row), and linear layers 8-bit inputs (a scale per token). null: as loaded.",
        None,
        examples=("bfloat16", "int8"),
    )
    hard_label_weight: float = weight("Weight of the labels in the loss.", 0.0)
    losses: tuple[DistillationLoss, ...] = keys_from(distillation_losses)
    layer_map: tuple[int, ...] | None = key(
        "For each student layer the teacher layer to learn from, counted from 0. null: follows from the layer "
        "reduction.",
        None,
        examples=((1, 3, 5),),
        items={"minimum": 0},
        minItems=1,
    )
    module_name_prefix: str | None = key(
        "Name of the list of layers that hidden states and attention are taken from, for models with several, such as "
        "an encoder and a decoder. null: found in the model.",
        None,
        examples=("encoder.block",),
    )
    cache: DistillationCache = key(
        "logits: the teacher's logits are kept on disk for each example, so that later epochs skip the teacher; needs "
        "hidden_weight and attention_weight 0.",
        "none",
        examples=("logits",),
    )
    cache_folder: str | None = key(
        "Folder of the cache, which runs and ranks may share. null: the launcher's run folder; initialize() needs it "
        "named.",
        None,
        examples=("cache/logits",),
    )

    @classmethod
    def check(cls, written: Written) -> Iterator[Finding]:
        """Report a block without any loss, and a cache that lacks what the losses need."""
        if not written.enabled:
            return
        weights = ("hard_label_weight", *(loss.weight_key for loss in distillation_losses()))
        if not any(written[key] for key in weights):
            what = "all weights are 0, nothing would be learned"
            yield written.home, f"{what}; allowed: at least one of {', '.join(weights)} > 0"
        layer_weights = _layer_weights()
        needed = [key for key in layer_weights if written[key] > 0]
        if written["cache"] == "logits" and needed:
            what = f'keeps logits alone, but {" and ".join(needed)} > 0 needs the teacher in every step; found "logits"'
            allowed = " and ".join(f"{key} 0" for key in layer_weights)
            yield written.place("cache"), f'{what}; allowed: "none", or "logits" with {allowed}'

    @classmethod
    def warn(cls, written: Written) -> Iterator[Finding]:
        """Warn about keys without effect."""
        idle: dict[str, str] = {}
        if not any(written[loss.weight_key] for loss in distillation_losses()):
            idle |= dict.fromkeys(("teacher_dtype", "cache"), "nothing is learned from the teacher")
        if written["cache"] == "none":
            idle["cache_folder"] = 'cache is "none"'
        for loss in distillation_losses():
            if written[loss.weight_key] == 0:
                options = (key.name for key in keys_of(loss) if key.name != loss.weight_key)
                idle |= dict.fromkeys(options, f"{loss.weight_key} is 0")
        if not any(written[key] for key in _layer_weights()):
            idle["layer_map"] = f"{' and '.join(_layer_weights())} are 0"
        for name, reason in idle.items():
            # Warn about a written choice of a loss even if it is the default.
            chosen = name in written and reason.endswith(" is 0") and isinstance(written.default(name), str)
            if written[name] != written.default(name) or chosen:
                yield written.place(name), f"has no effect while {reason}; found {written.shown(name)}"


def _layer_weights() -> list[str]:
    """The weight keys of the losses that use hidden states or attention."""
    return [loss.weight_key for loss in distillation_losses() if loss.needs_layers]


KD = register_section(
    SwitchedSection[Distillation](
        name="kd",
        piece=Distillation,
        title="distillation",
        description="Knowledge distillation from a teacher while training.",
        example={"enabled": True},
        must_say=True,
        aliases=("distillation", "distill", "knowledge_distillation"),
        migrate=partial(migrate_kd, Distillation),
    )
)
