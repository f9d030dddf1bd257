"""Models that DeepSpeed has partitioned, or that it would run past the rewritten layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import xtc_ds
from tests.pruning.configs import pruning
from tests.pruning.masks import sparse_mask
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.compat.deepspeed import redundancy_clean
from xtc_ds.errors import EngineError
from xtc_ds.freezing.bake import bake
from xtc_ds.layers import compressed_layers

pytestmark = pytest.mark.usefixtures("single_process_group")

ZERO_3 = {"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}}
CONFIG = ds_config(
    block(bits=2, activation=None),
    optimizer={"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
    zero_force_ds_cpu_optimizer=False,
)


def start(model: Any, **extra: Any) -> Any:
    return xtc_ds.initialize(model=model, config={**CONFIG, **extra}, model_parameters=list(model.parameters()))[0]


def partitioned_model() -> Any:
    import deepspeed

    model = tiny_model(layers=2)
    deepspeed.zero.Init(module=model, config_dict_or_path={"train_batch_size": 4, **ZERO_3})
    assert all(parameter.numel() == 0 for parameter in model.parameters())
    return model


def train(engine: Any, steps: int = 3) -> list[float]:
    losses = []
    for step in range(steps):
        loss = engine(**batch(seed=step)).loss
        engine.backward(loss)
        engine.step()
        losses.append(float(loss.detach()))
    return losses


def test_a_model_made_under_zero_init_trains_like_one_that_was_not() -> None:
    """Partitioned parameters keep what ZeRO-3 wrote on them, and forwards see quantized weights."""
    partitioned = partitioned_model()
    assert train(start(partitioned, **ZERO_3)) == pytest.approx(train(start(tiny_model(layers=2))), abs=1e-5)
    assert all(hasattr(parameter, "ds_id") for parameter in partitioned.parameters())


class _TiesWhileBuilt(nn.Module):
    """Reads a weight in ``__init__`` alone, of which ``zero.Init`` keeps a copy under another name."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight


def test_classes_that_zero_init_has_touched_are_compressed() -> None:
    import deepspeed

    with deepspeed.zero.Init(config_dict_or_path={"train_batch_size": 4, **ZERO_3}):
        pass
    model = _TiesWhileBuilt()
    xtc_ds.compress(model, ds_config(block(bits=2, activation=None, exclude=[])))
    assert len(list(compressed_layers(model))) == 2


def test_freezing_under_zero_3_ships_the_trained_levels() -> None:
    """The shipped weights of a partitioned model have three levels, and are those of stage 0."""
    engines = [start(tiny_model(layers=2), **extra) for extra in (ZERO_3, {})]
    for engine in engines:
        train(engine)
    frozen: list[Any] = [xtc_ds.freeze(engine) for engine in engines]
    inputs = batch(labels=False)
    assert torch.allclose(frozen[0](**inputs).logits, frozen[1](**inputs).logits, atol=1e-5)
    layer = frozen[0].bert.pooler.dense
    assert layer.spec.format == "ternary"
    assert len(layer.dense_weight().unique()) == 3


@pytest.mark.parametrize("clean", [bake, lambda engine: redundancy_clean(engine, CONFIG)])
def test_cleaning_under_zero_3_writes_the_levels_into_the_weights(clean: Callable[[Any], None]) -> None:
    """What happens to whole weights happens to partitioned ones as well, by the new name and the old."""
    import deepspeed

    engine = start(tiny_model(layers=2), **ZERO_3)
    train(engine)
    names = [f"{name}.weight" for name, _ in compressed_layers(engine.module)]
    assert len(names) == 13
    clean(engine)
    parameters = dict(engine.module.named_parameters())
    for name in names:
        with deepspeed.zero.GatheredParameters([parameters[name]]):
            assert 1 < len(parameters[name].unique()) <= 3, name


def test_masks_of_partitioned_weights_are_those_of_whole_ones() -> None:
    """An l1 mask is made from the whole weight, not from this rank's empty placeholder."""
    compression = pruning("sparse_pruning", {"all": (["intermediate"], {"dense_ratio": 0.25})}, schedule_offset=0)
    masks = []
    for model in (partitioned_model(), tiny_model(layers=2)):
        xtc_ds.compress(model, ds_config(compression))
        masks.append([sparse_mask(layer) for _, layer in compressed_layers(model)])
    assert len(masks[0]) == 2
    for partitioned, whole in zip(*masks, strict=True):
        assert partitioned is not None
        assert torch.equal(partitioned, whole)
        assert float(partitioned.float().mean()) == 0.25


def test_pipeline_modules_are_refused_by_the_engine_before_anything_is_changed() -> None:
    """The pipeline engine would run without the schedule."""
    from deepspeed.pipe import PipelineModule

    model = PipelineModule([nn.Linear(8, 8), nn.Linear(8, 8)], num_stages=1)
    with pytest.raises(EngineError, match="pipeline modules"):
        start(model)
    assert not any(True for _ in compressed_layers(model))


def test_the_layers_that_a_pipeline_module_calls_are_the_compressed_ones() -> None:
    """A module is rewritten in place, so that the list of functions that the forward walks holds it too."""
    from deepspeed.pipe import PipelineModule

    model = PipelineModule([nn.Linear(8, 8), nn.Linear(8, 8)], num_stages=1)
    xtc_ds.compress(model, ds_config(block(exclude=[], activation=None)))
    x = torch.randn(3, 8)
    out = model(x)
    for layer in model.forward_funcs:
        assert len(layer.in_force(layer.weight, None)[0].unique()) == 2
        x = torch.nn.functional.linear(x, layer.in_force(layer.weight, None)[0], layer.bias)
    assert torch.equal(out, x)
    out.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
