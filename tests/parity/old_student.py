"""What ``student_initialization`` of DeepSpeed 0.19.6 copies; only imported where it is installed."""

from __future__ import annotations

from typing import Any

from deepspeed.compression.compress import student_initialization
from numpy.typing import NDArray

from tests.parity.arrays import as_array
from tests.parity.models import MODELS, fill
from tests.parity.students import STUDENTS


def student_arrays() -> dict[str, NDArray[Any]]:
    """``<case>:<parameter>`` -> the student's weights afterwards."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, reduction in STUDENTS.items():
        teacher, student = MODELS["layered_4"](), MODELS["layered_2"]()
        fill(teacher, "distinct", seed=1)
        fill(student, "distinct", seed=2)
        student_initialization(student, teacher, {"compression_training": {"layer_reduction": reduction}})
        arrays |= {f"{name}:{key}": as_array(value) for key, value in student.state_dict().items()}
    return arrays
