"""The block's ``layer_reduction``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from xtc_ds.config.json_value import Finding
from xtc_ds.config.keys import Old, key
from xtc_ds.config.locate import show_value
from xtc_ds.config.migrate.blocks import mapping
from xtc_ds.config.migrate.note import Note, note
from xtc_ds.config.pieces import Piece
from xtc_ds.config.plain_sections import SwitchedSection
from xtc_ds.config.section import register_section
from xtc_ds.config.written import Written

__all__ = ["LAYER_REDUCTION", "LayerReduction"]


@dataclass(frozen=True, kw_only=True)
class LayerReduction(Piece):
    """Which layers of the teacher initialize the student; ``teacher_layer`` counts from 0.

    Exactly one of ``keep_number_layer``, ``keep_ratio`` and ``teacher_layer`` is set, except that ``keep_number_layer``
    may accompany a ``teacher_layer`` of that length. If the prefix or the other modules are None, they are found in the
    model.
    """

    path: str = "compression_training.layer_reduction"
    keep_number_layer: int | None = key(
        "How many layers the student has; evenly spaced over the teacher unless teacher_layer names them.",
        None,
        examples=(5,),
        minimum=1,
        old=Old(),
        aliases=("num_layers",),
    )
    keep_ratio: float | None = key(
        "Share of the layers to keep, for configs that fit any depth; rounded to the nearest whole number, at least "
        "one layer.",
        None,
        examples=(0.5,),
        exclusiveMinimum=0,
        maximum=1,
    )
    module_name_prefix: str | None = key(
        "Name of the list of layers in the model. null: found in the model.",
        None,
        examples=("bert.encoder.layer",),
        old=Old(),
    )
    teacher_layer: tuple[int, ...] | None = key(
        "Teacher layers to start from, counted from 0, in rising order.",
        None,
        examples=((2, 4, 6, 8, 10),),
        items={"minimum": 0},
        minItems=1,
        old=Old(),
    )
    other_module_name: tuple[str, ...] | None = key(
        "Full names of the other modules to copy from the teacher. null: all modules outside the list of layers.",
        None,
        examples=(("bert.pooler", "bert.embeddings", "classifier"),),
        old=Old(),
    )

    @classmethod
    def check(cls, written: Written) -> Iterator[Finding]:
        """Report layers out of order, and keys that contradict each other or are all missing."""
        layers, number = written["teacher_layer"], written["keep_number_layer"]
        if layers is not None and any(low >= high for low, high in zip(layers, layers[1:], strict=False)):
            what = f"not in rising order; found {written.shown('teacher_layer')}"
            yield written.place("teacher_layer"), f"{what}; allowed: each layer once, in rising order"
        given = [key for key in ("keep_number_layer", "keep_ratio", "teacher_layer") if written[key] is not None]
        if not given and written.enabled:
            what = "does not say which layers to keep; found none of the three keys"
            yield written.home, f"{what}; allowed: one of keep_number_layer, keep_ratio, teacher_layer"
        if written["keep_ratio"] is not None and len(given) > 1:
            other = next(key for key in given if key != "keep_ratio")
            what = f"stands beside {other}, which says the same; found {written.shown('keep_ratio')}"
            yield written.place("keep_ratio"), f"{what}; allowed: only one of the two"
        if None not in (number, layers) and number != len(layers):
            what = f"does not agree with teacher_layer; found {written.shown('keep_number_layer')}"
            yield written.place("keep_number_layer"), f"{what}; allowed: {len(layers)}, the length of teacher_layer"


def _migrate(block: dict[str, Any]) -> list[Note]:
    """The old library never read ``keep_number_layer``; remove it if it contradicts ``teacher_layer``."""
    reduction = mapping(block, "layer_reduction")
    if reduction.get("enabled") is not True or reduction.get("keep_number_layer") is None:
        return []
    number, layers = reduction["keep_number_layer"], reduction.get("teacher_layer")
    path = ("layer_reduction", "keep_number_layer")
    before = f"{show_value(number)}; never read, the script had to build the small student itself"
    if isinstance(layers, list) and number != len(layers):
        del reduction["keep_number_layer"]
        now = f"taken out, since teacher_layer names {len(layers)} layers; the student gets as many"
        return [note("removed", path, before, now)]
    now = f"{show_value(number)}; layers are dropped from a full model, and a student that is built small is checked"
    return [note("same key", path, before, now)]


LAYER_REDUCTION = register_section(
    SwitchedSection[LayerReduction](
        name="layer_reduction",
        piece=LayerReduction,
        title="layer reduction",
        description="A student with fewer layers, started from layers of the teacher.",
        example={"enabled": True, "keep_number_layer": 5},
        old=True,
        migrate=_migrate,
    )
)
