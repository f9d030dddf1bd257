"""Which teacher layer each student layer learns from."""

from __future__ import annotations

import pytest

from xtc_ds.distillation.layer_map import make_layer_map
from xtc_ds.errors import ConfigError

TABLE = [
    # student depth, teacher depth, given, kept, attention map, hidden map
    (5, 12, None, (2, 4, 6, 8, 10), (2, 4, 6, 8, 10), (1, 3, 5, 7, 9, 11)),
    (6, 12, None, (1, 3, 5, 7, 9, 11), (1, 3, 5, 7, 9, 11), (0, 2, 4, 6, 8, 10, 12)),
    (3, 12, None, (0, 5, 11), (0, 5, 11), (0, 1, 6, 12)),
    (4, 4, None, None, (0, 1, 2, 3), (0, 1, 2, 3, 4)),
    (6, 12, None, None, (1, 3, 5, 7, 9, 11), (0, 2, 4, 6, 8, 10, 12)),
    (5, 12, None, None, (2, 4, 6, 8, 10), (1, 3, 5, 7, 9, 11)),
    (2, 12, (3, 3), (0, 1), (3, 3), (2, 4, 4)),
    (3, 2, (0, 1, 1), None, (0, 1, 1), (0, 1, 2, 2)),
]


@pytest.mark.parametrize(("student", "teacher", "given", "kept", "attention", "hidden"), TABLE)
def test_map(student: int, teacher: int, given: object, kept: object, attention: object, hidden: object) -> None:
    found = make_layer_map(student, teacher, given, kept)  # type: ignore[arg-type]
    assert (found.attention, found.hidden) == (attention, hidden)


@pytest.mark.parametrize(
    ("student", "teacher", "given", "kept", "words"),
    [
        (3, 12, (1, 2), None, "each of the student's 3 layers, it has 2 entries"),
        (2, 4, (1, 4), None, r"4 layers \(0 to 3\); found \[4\]"),
        (2, 4, None, (1, 7), r"found \[7\] in \[1, 7\]"),
        (2, 4, (-1, 2), None, r"found \[-1\]"),
        (6, 2, None, None, "give layer_map"),
    ],
)
def test_a_map_that_does_not_fit_is_an_error_at_its_place(
    student: int, teacher: int, given: object, kept: object, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        make_layer_map(student, teacher, given, kept, "compression_training.kd")  # type: ignore[arg-type]
    assert [p.path for p in caught.value.problems] == ["compression_training.kd.layer_map"]
