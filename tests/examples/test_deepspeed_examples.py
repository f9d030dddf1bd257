"""DeepSpeed's own example configs: each is planned, trained, frozen and shipped, and does what its keys say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import xtc_ds
from tests.examples.example_models import MODELS, outputs_of, precision
from tests.examples.running import CONFIGS, adapted, architecture_of, example, soon, start, train
from tests.half_precision import allow_fp16
from xtc_ds.errors import ConfigError
from xtc_ds.runtime.packed import PackedLayer

pytestmark = pytest.mark.usefixtures("single_process_group")

PLAIN = ["cifar_plain", "gpt2_plain"]
NAMES = sorted({path.stem for path in CONFIGS.glob("*_*.json") if architecture_of(path.stem) in MODELS} - set(PLAIN))
PRUNINGS = ("sparse_pruning", "row_pruning", "head_pruning", "channel_pruning")


@pytest.fixture(scope="module", autouse=True)
def _fp16() -> Iterator[None]:
    torch.set_num_threads(1)
    with allow_fp16():
        yield


def enabled(config: dict[str, Any], technique: str) -> bool:
    found = config["compression_training"].get(technique, {})
    return bool(found.get("shared_parameters", found).get("enabled", False))


PRUNED = [name for name in NAMES if any(enabled(example(name), technique) for technique in PRUNINGS)]


def dense(layer: nn.Module) -> Tensor:
    weight = layer.dense_weight() if isinstance(layer, PackedLayer) else layer.weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def check_weights(plan: Any, frozen: nn.Module) -> None:
    """As many distinct values as the bits allow, for each scale; pruning may add zero."""
    for row in plan.weights:
        bits = row.schedule.target_bits
        levels = 3 if bits == 2 and row.symmetric else 2**bits
        weight = dense(frozen.get_submodule(row.module))
        groups = row.grouping.count(row.shape)
        assert 1 < len(weight.unique()) <= groups * levels + 1, row.module


def check_sparsity(plan: Any, frozen: nn.Module, steps: int) -> None:
    for row in plan.sparse:
        if row.method == "snip_momentum" and steps < row.end:
            continue  # its mask grows from the gradients of the steps until then
        weight = dense(frozen.get_submodule(row.module))
        kept = math.ceil(row.dense_ratio * math.prod(row.shape))
        # Whole blocks stay or go; a quantized weight may be zero by itself.
        assert int(weight.count_nonzero()) <= kept + 4, row.module
        quantized = any(row.module == other.module for other in plan.weights)
        shrunk = math.prod(row.shape) > weight.numel()
        if not quantized and not shrunk:
            assert int(weight.count_nonzero()) >= kept - 4, row.module


def check_shrinking(plan: Any, frozen: nn.Module) -> None:
    for row in plan.structured:
        assert 0 < row.kept < row.units
        smaller = dense(frozen.get_submodule(row.module))
        axis = 1 if row.technique == "head" else 0
        assert smaller.shape[axis] * row.units == row.shape[axis] * row.kept, row.module
        for other in row.related:
            shape = dense(frozen.get_submodule(other.module)).shape
            side = 1 if other.side == "in" else 0
            assert shape[side] == smaller.shape[axis], other.module


def check_ships(name: str, frozen: nn.Module, folder: Path) -> None:
    """The file gives the outputs of the frozen model."""
    architecture = architecture_of(name)
    xtc_ds.export_packed(frozen, folder)
    if architecture == "cifar":
        again = xtc_ds.load_into(MODELS[architecture]().to(precision(frozen)), folder)
    else:
        again = xtc_ds.load(folder)
    expected = outputs_of(architecture, frozen)
    assert expected.isfinite().all()
    torch.testing.assert_close(outputs_of(architecture, again), expected)


@pytest.mark.parametrize("name", NAMES)
def test_plans_what_is_enabled(name: str) -> None:
    config = example(name)
    _, block = xtc_ds.load_config(config)
    plan = xtc_ds.make_plan(MODELS[architecture_of(name)](), block)
    assert (plan.reduction is not None) == enabled(config, "layer_reduction")
    assert bool(plan.weights) == enabled(config, "weight_quantization")
    assert bool(plan.activations) == enabled(config, "activation_quantization")
    assert bool(plan.sparse) == enabled(config, "sparse_pruning")
    wanted = {kind for kind in ("row", "head", "channel") if enabled(config, f"{kind}_pruning")}
    assert {row.technique for row in plan.structured} == wanted


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_trains_freezes_and_ships(name: str, tmp_path: Path) -> None:
    run(name, adapted(example(name), stage=0), tmp_path)


@pytest.mark.parametrize("name", PRUNED)
def test_trains_while_pruned(name: str, tmp_path: Path) -> None:
    run(name, soon(adapted(example(name), stage=0)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_trains_under_zero_3(name: str, tmp_path: Path) -> None:
    run(name, soon(adapted(example(name), stage=3)), tmp_path)


def tolerance(engine: Any) -> float:
    """Sums in another order differ in the last bit, and may turn codes of inputs into their neighbours."""
    if engine.fp16_enabled():
        return 0.1
    return 1e-2 if engine.xtc.plan.activations else 1e-4


def in_force(plan: Any) -> bool:
    return all(row.offset <= 2 for row in (*plan.sparse, *plan.structured))


def run(name: str, config: dict[str, Any], folder: Path) -> None:
    engine = start(name, config)
    train(name, engine, config["train_micro_batch_size_per_gpu"])
    assert engine.fp16_enabled() == config["fp16"]["enabled"]
    assert engine.xtc.schedule.step == 2
    plan = engine.xtc.plan
    engine.eval()
    trained = outputs_of(architecture_of(name), engine)
    frozen = xtc_ds.freeze(engine)
    if all(row.schedule.at(2) == row.schedule.target_bits for row in plan.weights) and in_force(plan):
        shipped = outputs_of(architecture_of(name), frozen)
        torch.testing.assert_close(shipped, trained, rtol=0, atol=tolerance(engine) * float(trained.std()))
    check_weights(plan, frozen)
    check_sparsity(plan, frozen, engine.xtc.schedule.step)
    check_shrinking(plan, frozen)
    check_ships(name, frozen, folder / "packed")


@pytest.mark.parametrize("name", PLAIN)
def test_a_config_without_a_block_is_for_deepspeed(name: str) -> None:
    with pytest.raises(ConfigError, match="compression_training: missing"):
        start(name, adapted(example(name), stage=0))


@pytest.mark.parametrize("stage", [2, 3])
def test_prescaled_gradients_are_refused_where_deepspeed_would_fail_later(stage: int) -> None:
    config = example("bert_w1a8")
    config["zero_optimization"]["stage"] = stage
    with pytest.raises(ConfigError, match=f"^prescale_gradients: .* ZeRO-{stage} .*; set it to false"):
        start("bert_w1a8", config)
    config["zero_optimization"]["reduce_scatter"] = False
    assert start("bert_w1a8", config).zero_optimization_stage() == stage
