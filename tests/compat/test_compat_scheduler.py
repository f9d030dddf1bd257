"""``compression_scheduler`` in a training loop without an engine."""

from __future__ import annotations

import pytest
import torch

from tests.pruning.masks import sparse_mask
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.compat.deepspeed import compression_scheduler, get_compression_config, init_compression
from xtc_ds.errors import EngineError

CONFIG = ds_config(block(shared={"schedule_offset": 2}))


def test_steps_are_counted_and_put_the_schedule_in_force() -> None:
    model = init_compression(tiny_model(), CONFIG)
    layer = model.bert.pooler.dense
    scheduler = compression_scheduler(model, CONFIG)
    scheduler.step(step_zero_check=True)
    assert (scheduler.training_steps, scheduler.weight_quantization_enabled) == (0, False)
    seen = []
    for _ in range(3):
        scheduler.step()
        seen.append((scheduler.training_steps, scheduler.weight_quantization_enabled, layer.weight_format is not None))
    assert seen == [(1, False, False), (2, True, True), (3, True, True)]


def test_a_run_goes_on_at_the_step_that_is_set() -> None:
    model = init_compression(tiny_model(), CONFIG)
    scheduler = compression_scheduler(model, get_compression_config(CONFIG))
    scheduler.training_steps = 5
    scheduler.step(step_zero_check=True)
    assert scheduler.weight_quantization_enabled
    assert model.bert.pooler.dense.weight_format is not None


def test_a_model_that_was_never_compressed_is_an_error() -> None:
    with pytest.raises(EngineError, match="never compressed; call init_compression first"):
        compression_scheduler(tiny_model(), CONFIG)
    compression_scheduler(tiny_model(), {"train_batch_size": 1}).step()


def test_the_parsed_config_names_every_technique() -> None:
    parsed = get_compression_config({"train_batch_size": 1})
    assert {
        name: technique.get("shared_parameters", technique)["enabled"] for name, technique in parsed.items()
    } == dict.fromkeys(
        (
            "weight_quantization",
            "activation_quantization",
            "sparse_pruning",
            "row_pruning",
            "head_pruning",
            "channel_pruning",
            "layer_reduction",
        ),
        False,
    )


def test_sparsity_rises_without_an_engine() -> None:
    shared = {
        "enabled": True,
        "method": "snip_momentum",
        "schedule_offset": 1,
        "schedule_offset_end": 4,
        "schedule_offset_stride": 1,
        "block_pattern": "1x1",
        "dense_ratio": 0.25,
    }
    group = {"params": {"dense_ratio": 0.25}, "modules": ["pooler.dense"]}
    config = ds_config({"sparse_pruning": {"shared_parameters": shared, "different_groups": {"all": group}}})
    model = init_compression(tiny_model(), config)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scheduler = compression_scheduler(model, config)
    kept = []
    for step in range(5):
        optimizer.zero_grad()
        model(**batch(seed=step)).loss.backward()
        optimizer.step()
        scheduler.step()
        mask = sparse_mask(model.bert.pooler.dense)
        kept.append(1.0 if mask is None else float(mask.float().mean()))
    assert kept[0] > kept[1] > kept[2] > kept[3] == kept[4] == 0.25
