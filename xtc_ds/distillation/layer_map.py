"""The map from student layers to the teacher layers from which they learn."""

from __future__ import annotations

from dataclasses import dataclass

from xtc_ds.errors import ConfigError, Problem
from xtc_ds.plan.stack import even_layers

__all__ = ["LayerMap", "make_layer_map"]


@dataclass(frozen=True)
class LayerMap:
    """``attention[i]`` is the teacher layer for student layer i; ``hidden[j]`` the teacher's hidden state for state j.

    Hidden state 0 is the input of the first layer, state i + 1 the output of layer i.
    """

    attention: tuple[int, ...]

    @property
    def hidden(self) -> tuple[int, ...]:
        """XTC's rule: state i + 1 learns from the output of layer m[i], state 0 from that of layer m[0] - 2.

        [1, 3, 5] gives [0, 2, 4, 6]; [2, 4] gives [1, 3, 5]; the first entry is never below 0.
        """
        return (max(self.attention[0] - 1, 0), *(layer + 1 for layer in self.attention))

    @property
    def attention_pairs(self) -> tuple[tuple[int, int], ...]:
        """(student layer, teacher layer) for every layer of the student."""
        return tuple(enumerate(self.attention))

    @property
    def hidden_pairs(self) -> tuple[tuple[int, int], ...]:
        """(student's hidden state, teacher's hidden state) for every state of the student."""
        return tuple(enumerate(self.hidden))


def make_layer_map(
    student_depth: int,
    teacher_depth: int,
    given: tuple[int, ...] | None = None,
    kept: tuple[int, ...] | None = None,
    path: str = "compression_training.kd",
) -> LayerMap:
    """The map that is ``given``, else the teacher layers ``kept`` by layer reduction, else one-to-one for equal depths,
    else evenly spaced.

    Raises ConfigError, located at ``<path>.layer_map``, if the map does not fit the two models.
    """
    place = f"{path}.layer_map"
    layers = given if given is not None else kept
    if layers is None:
        if student_depth > teacher_depth:
            raise _error(
                place,
                f"the student has {student_depth} layers and the teacher {teacher_depth}; "
                f"give layer_map: the teacher's layer for each of the {student_depth}",
            )
        return LayerMap(even_layers(teacher_depth, student_depth))
    if len(layers) != student_depth:
        found = f"it has {len(layers)} entries; found {list(layers)}"
        raise _error(place, f"must name one teacher layer for each of the student's {student_depth} layers, {found}")
    wrong = [layer for layer in layers if not 0 <= layer < teacher_depth]
    if wrong:
        raise _error(
            place, f"the teacher has {teacher_depth} layers (0 to {teacher_depth - 1}); found {wrong} in {list(layers)}"
        )
    return LayerMap(tuple(layers))


def _error(place: str, message: str) -> ConfigError:
    return ConfigError([Problem(place, message)])
