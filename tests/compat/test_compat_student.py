"""``student_initialization``."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from tests.tiny import tiny_model
from xtc_ds.compat.deepspeed import student_initialization
from xtc_ds.errors import ConfigError, PlanError


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(width, width), nn.BatchNorm1d(width)


class Stacked(nn.Module):
    def __init__(self, depth: int, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.body = nn.ModuleList(Block(width) for _ in range(depth))
        self.last = nn.Linear(width, width)


def config(**changes: Any) -> dict[str, Any]:
    reduction = {
        "enabled": False,
        "keep_number_layer": 2,
        "module_name_prefix": "body",
        "teacher_layer": [0, 2],
        "other_module_name": ["first"],
        **changes,
    }
    return {"train_batch_size": 8, "compression_training": {"layer_reduction": reduction}}


def teacher() -> Stacked:
    model = Stacked(3)
    for number, block in enumerate(model.body):
        assert isinstance(block, Block)
        block.norm.running_mean.fill_(number + 1.0)
    return model


def test_chosen_layers_and_modules_are_copied_with_their_buffers_and_nothing_else() -> None:
    student, source = Stacked(2), teacher()
    last, given = student.last.weight.clone(), config()
    before = copy.deepcopy(given)
    assert student_initialization(student, source, given) is None
    assert given == before
    for mine, theirs in ((0, 0), (1, 2)):
        ours, origin = student.body[mine].state_dict(), source.body[theirs].state_dict()
        assert all(torch.equal(ours[name], origin[name]) for name in origin)
    assert torch.equal(student.first.weight, source.first.weight)
    assert torch.equal(student.last.weight, last)


@pytest.mark.parametrize(
    ("student", "changes", "message"),
    [
        (Stacked(3), {}, "the student has 3 layers, 2 are to be kept"),
        (Stacked(1), {}, "the model has 1 layers, the teacher 3"),
        (Stacked(2, 8), {}, r"has shape \(8, 8\), the teacher's .* \(4, 4\)"),
        (Stacked(2), {"teacher_layer": [0, 7]}, "layer 7 does not exist"),
        (Stacked(2), {"module_name_prefix": "bodi"}, "'bodi' is not a list of layers; nearest: body"),
        (Stacked(2), {"other_module_name": ["firs"]}, "no module 'firs'; nearest: first"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_copied(
    student: Stacked, changes: dict[str, Any], message: str
) -> None:
    before = copy.deepcopy(student.state_dict())
    with pytest.raises(PlanError, match=message):
        student_initialization(student, teacher(), config(**changes))
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


def test_tensors_that_only_one_side_has_are_refused() -> None:
    student = Stacked(2)
    student.body[1].linear.bias = None  # type: ignore[union-attr]
    with pytest.raises(PlanError, match=r"body.1: only one of it and the teacher's body.2 has 'linear.bias'"):
        student_initialization(student, teacher(), config())
    with pytest.raises(ConfigError, match="layer_reduction: missing"):
        student_initialization(Stacked(2), teacher(), {"train_batch_size": 8})


def test_partitioned_models_are_gathered(single_process_group: None) -> None:
    import deepspeed

    source, student = tiny_model(), tiny_model(layers=2)
    with torch.no_grad():
        source.bert.encoder.layer[3].output.dense.weight.fill_(0.25)
    zero = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}}
    for model in (source, student):
        deepspeed.zero.Init(module=model, config_dict_or_path=zero)
    names = {"module_name_prefix": "bert.encoder.layer", "teacher_layer": [1, 3], "other_module_name": ["classifier"]}
    student_initialization(student, source, config(**names))
    weight = student.bert.encoder.layer[1].output.dense.weight
    assert weight.numel() == 0
    with deepspeed.zero.GatheredParameters([weight]):
        assert torch.equal(weight, torch.full((32, 64), 0.25))
