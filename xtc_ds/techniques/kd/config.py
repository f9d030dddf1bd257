"""The block's ``kd``: distillation from a teacher."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from xtc_ds.config.json_value import Finding
from xtc_ds.config.keys import key
from xtc_ds.config.pieces import Piece
from xtc_ds.config.plain_sections import SwitchedSection
from xtc_ds.config.section import register_section
from xtc_ds.config.written import Written
from xtc_ds.techniques.kd.migrate import migrate_kd

__all__ = ["KD", "AttentionType", "Distillation", "DistillationCache", "TeacherDtype"]

AttentionType = Literal["scores", "probabilities", "relations"]
TeacherDtype = Literal["float32", "float16", "bfloat16", "int8"]
DistillationCache = Literal["none", "logits"]

_LARGEST = 1e6


def _weight(text: str, default: float) -> Any:
    return key(
        text,
        default,
        examples=(1.0, 0.0),
        minimum=0,
        maximum=_LARGEST,
        allowed=f"a number from 0 to {_LARGEST:.0f}",
    )


@dataclass(frozen=True, kw_only=True)
class Distillation(Piece):
    """The ``kd`` block: what the student learns from the teacher, and how much each part weighs."""

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
    temperature: float = key(
        "Softmax temperature of the logits loss.",
        1.0,
        examples=(1.0, 2.0),
        exclusiveMinimum=0,
        maximum=_LARGEST,
        allowed=f"a number > 0, at most {_LARGEST:.0f}",
    )
    hard_label_weight: float = _weight("Weight of the labels in the loss.", 0.0)
    logits_weight: float = _weight("Weight of the teacher's logits in the loss.", 1.0)
    hidden_weight: float = _weight("Weight of the hidden states in the loss.", 1.0)
    attention_weight: float = _weight("Weight of the attention maps in the loss.", 1.0)
    attention_type: AttentionType = key(
        "scores: products of queries and keys before the softmax. probabilities: after it. relations: MiniLM's query, "
        "key and value relations.",
        "scores",
        examples=("scores",),
    )
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
        """Nothing to learn, and a cache that lacks what is learned."""
        if not written.enabled:
            return
        if not any(written[weight] for weight in _WEIGHTS):
            what = "all weights are 0, nothing would be learned"
            yield written.home, f"{what}; allowed: at least one of {', '.join(_WEIGHTS)} > 0"
        layers = [weight for weight in _LAYER_WEIGHTS if written[weight] > 0]
        if written["cache"] == "logits" and layers:
            what = f'keeps logits alone, but {" and ".join(layers)} > 0 needs the teacher in every step; found "logits"'
            allowed = 'allowed: "none", or "logits" with hidden_weight 0 and attention_weight 0'
            yield written.place("cache"), f"{what}; {allowed}"

    @classmethod
    def warn(cls, written: Written) -> Iterator[Finding]:
        """Keys that do nothing."""
        idle: dict[str, str] = {}
        if not any(written[weight] for weight in _TEACHER_WEIGHTS):
            idle |= dict.fromkeys(("teacher_dtype", "cache"), "nothing is learned from the teacher")
        if written["cache"] == "none":
            idle["cache_folder"] = 'cache is "none"'
        if written["logits_weight"] == 0:
            idle["temperature"] = "logits_weight is 0"
        if written["attention_weight"] == 0:
            idle["attention_type"] = "attention_weight is 0"
        if not any(written[weight] for weight in _LAYER_WEIGHTS):
            idle["layer_map"] = "hidden_weight and attention_weight are 0"
        for name, reason in idle.items():
            # The attention type is worth a word even where the default is written.
            if written[name] != written.default(name) or (name == "attention_type" and name in written):
                yield written.place(name), f"has no effect while {reason}; found {written.shown(name)}"


_LAYER_WEIGHTS = ("hidden_weight", "attention_weight")
_TEACHER_WEIGHTS = ("logits_weight", *_LAYER_WEIGHTS)
_WEIGHTS = ("hard_label_weight", *_TEACHER_WEIGHTS)

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
