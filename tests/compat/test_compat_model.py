"""``init_compression`` and ``redundancy_clean`` without an engine."""

from __future__ import annotations

import copy
import io
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.compat.deepspeed import init_compression, redundancy_clean
from xtc_ds.compat.memory import recall
from xtc_ds.errors import ConfigError, ExportError, PlanError
from xtc_ds.layers import CompressedLinear, compressed_layers

PREFIX = {"module_name_prefix": "bert.encoder.layer", "teacher_layer": [1, 3], "keep_number_layer": 2}
OTHERS = {"other_module_name": ["bert.embeddings", "bert.pooler", "classifier"]}
REDUCTION = {**PREFIX, **OTHERS}
NOTHING = {"enabled": False}


def reduction_only() -> dict[str, Any]:
    return ds_config({"layer_reduction": {"enabled": True, **REDUCTION}})


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model.eval()(**batch(labels=False)).logits
    return result


def test_the_same_object_with_the_same_parameters_comes_back_and_the_dict_stays() -> None:
    model, config = tiny_model(), ds_config(block())
    before, parameters = copy.deepcopy(config), dict(model.named_parameters())
    assert init_compression(model, config) is model
    assert config == before
    assert all(parameters[name] is parameter for name, parameter in model.named_parameters())
    assert isinstance(model.bert.pooler.dense, CompressedLinear)


def test_a_file_may_be_hjson(tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_text("# a comment\n" + json.dumps(ds_config(block())))
    assert recall(init_compression(tiny_model(), str(path))) is not None


def test_wrappers_are_opened_by_their_type_and_not_by_an_attribute() -> None:
    class Owner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module, self.other = nn.Linear(8, 8), nn.Linear(8, 8)

    owner = init_compression(Owner(), ds_config(block(exclude=[])))
    assert [name for name, _ in compressed_layers(owner)] == ["module", "other"]
    wrapped = nn.DataParallel(tiny_model())
    assert init_compression(wrapped, ds_config(block())) is wrapped
    assert any(True for _ in compressed_layers(wrapped.module))


def test_layer_reduction_takes_a_shallow_student_a_full_one_or_no_teacher() -> None:
    teacher = tiny_model()
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.01)
    built = init_compression(tiny_model(layers=2), reduction_only(), teacher_model=teacher)
    cut = init_compression(tiny_model(), reduction_only(), teacher_model=teacher)
    alone = init_compression(copy.deepcopy(teacher), reduction_only())
    assert len(cut.bert.encoder.layer) == 2
    assert torch.equal(logits(built), logits(cut))
    assert torch.equal(logits(built), logits(alone))
    expected = teacher.bert.encoder.layer[3].output.dense.weight
    assert torch.equal(built.bert.encoder.layer[1].output.dense.weight, expected)
    assert len(teacher.bert.encoder.layer) == 4


def test_a_student_of_another_depth_or_with_other_tensors_is_refused_untouched() -> None:
    student = tiny_model(layers=3)
    before = copy.deepcopy(student.state_dict())
    with pytest.raises(PlanError, match="the model has 3 layers, the teacher 4, and 2 are to be kept"):
        init_compression(student, reduction_only(), teacher_model=tiny_model())
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    no_bias = tiny_model(layers=2)
    no_bias.bert.encoder.layer[1].output.dense.bias = None
    with pytest.raises(PlanError, match=r"bert.encoder.layer.1: only one .* has 'output.dense.bias'"):
        init_compression(no_bias, reduction_only(), teacher_model=tiny_model())


def test_a_teacher_that_only_the_script_needs_is_no_matter(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "xtc_ds"):
        init_compression(tiny_model(), ds_config(block()), teacher_model=tiny_model())
    assert not caplog.records


def test_a_config_without_a_block_changes_nothing_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    model, plain = tiny_model(), {"train_micro_batch_size_per_gpu": 4}
    state = copy.deepcopy(model.state_dict())
    assert init_compression(model, plain) is model
    assert "has no compression_training block" in caplog.text
    assert redundancy_clean(model, plain) is model
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    with pytest.raises(ConfigError, match="did you mean 'compression_training'"):
        init_compression(tiny_model(), {"compresion_training": block()})


def test_cleaning_a_model_that_was_never_compressed_is_an_error() -> None:
    with pytest.raises(ExportError, match="never compressed; call init_compression"):
        redundancy_clean(tiny_model(), ds_config(block()))
    model = tiny_model()
    disabled = ds_config({"weight_quantization": {"shared_parameters": NOTHING, "different_groups": {}}})
    assert redundancy_clean(model, disabled) is model


def test_a_cleaned_model_computes_the_same_from_dense_quantized_weights_and_stays() -> None:
    config = ds_config(block(bits=2))
    model = init_compression(tiny_model(), config)
    keys, expected = list(model.state_dict()), logits(model)
    assert redundancy_clean(model, config) is model
    assert list(model.state_dict()) == keys
    assert len(model.bert.pooler.dense.weight.unique()) == 3
    # Evaluation may multiply in integers until the weights are dense: sums in another order.
    assert torch.allclose(logits(model), expected, atol=1e-5)
    once = copy.deepcopy(model.state_dict())
    redundancy_clean(model, config)
    assert all(torch.equal(once[name], value) for name, value in model.state_dict().items())


def test_latent_weights_of_a_checkpoint_are_cleaned_in_a_new_model() -> None:
    config = ds_config(block(bits=2, shared={"schedule_offset": 100}))
    trained = init_compression(tiny_model(), config)
    with torch.no_grad():
        trained.classifier.weight.mul_(2)
        trained.bert.pooler.dense.weight.mul_(3)
    latent = copy.deepcopy(trained.state_dict())
    fresh = init_compression(tiny_model(), config)
    fresh.load_state_dict(latent)
    assert torch.equal(logits(redundancy_clean(fresh, config)), logits(redundancy_clean(trained, config)))


def test_the_student_of_a_first_run_may_be_loaded_after_the_second_init() -> None:
    """Layer reduction, then 1 bit from the reduced model's weights: the two steps of XTC's scripts."""
    first = init_compression(tiny_model(layers=2), reduction_only(), teacher_model=tiny_model())
    with torch.no_grad():
        first.bert.pooler.dense.weight.add_(0.5)
    saved = copy.deepcopy(first.state_dict())
    both = ds_config(block(bits=1, reduction=REDUCTION))
    second = init_compression(tiny_model(layers=2), both, teacher_model=tiny_model())
    second.load_state_dict(saved)
    assert torch.equal(second.bert.pooler.dense.weight, first.bert.pooler.dense.weight)
    # The same in one process: only layers were dropped so far.
    again = init_compression(first, ds_config(block(bits=1)))
    assert torch.allclose(logits(again), logits(second), atol=1e-6)


def test_a_second_call_is_harmless_with_the_same_block_only(caplog: pytest.LogCaptureFixture) -> None:
    model, config = init_compression(tiny_model(), ds_config(block())), ds_config(block())
    assert init_compression(model, config) is model
    assert "went through it before" in caplog.text
    with pytest.raises(PlanError, match="compressed by another block already"):
        init_compression(model, ds_config(block(bits=2)))
    redundancy_clean(model, ds_config(block(bits=2)))
    assert "compressed by another block, and that one counts" in caplog.text
    assert len(model.bert.pooler.dense.weight.unique()) == 2


def test_copies_pickles_and_wrappers_remember() -> None:
    config = ds_config(block(kd={"teacher": "self", "temperature": 1.0}))
    model = init_compression(tiny_model(), config)
    memory = recall(model)
    assert memory is not None and memory.distiller is not None
    buffer = io.BytesIO()
    torch.save(copy.deepcopy(model), buffer)
    buffer.seek(0)
    loaded = recall(nn.Sequential(torch.load(buffer, weights_only=False)))
    assert loaded is not None and loaded.distiller is None
    assert loaded.plan.weights == memory.plan.weights


class ColumnParallelLinear(nn.Linear):
    pass


def test_tensor_parallel_layers_are_refused_and_an_mpu_without_any_is_not() -> None:
    mpu = SimpleNamespace(ColumnParallelLinear=ColumnParallelLinear, RowParallelLinear=type("Row", (nn.Module,), {}))
    model = nn.Sequential(nn.Linear(8, 8), ColumnParallelLinear(8, 8))
    for function in (init_compression, redundancy_clean):
        with pytest.raises(PlanError, match=r"1: is a ColumnParallelLinear of the mpu.*pass mpu=None"):
            function(model, ds_config(block(modules=["0"], exclude=[])), mpu=mpu)
    assert recall(init_compression(tiny_model(), ds_config(block()), mpu=mpu)) is not None
