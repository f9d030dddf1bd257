"""Pruning under the engine of one rank: scores in every kind of optimizer, and the steps of snip_momentum."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import xtc_ds
from tests.half_precision import allow_fp16
from tests.pruning.configs import all_prunings, pruning
from tests.pruning.masks import sparse_mask
from tests.tiny import batch, block, ds_config, tiny_model

pytestmark = pytest.mark.usefixtures("single_process_group")

LEARNED = pruning("sparse_pruning", {"g": (["query"], {"method": "topk", "dense_ratio": 0.5})}, schedule_offset=0)
QUERY = "bert.encoder.layer.0.attention.self.query"


def gradual(modules: str = "query", **params: Any) -> dict[str, Any]:
    values = {"dense_ratio": 0.25, "schedule_offset": 0, "schedule_offset_end": 3, "block_pattern": "4x1", **params}
    return pruning("sparse_pruning", {"g": ([modules], values)}, method="snip_momentum")


def engine_of(
    model: nn.Module, compression: dict[str, Any], client: Any = None, parameters: Any = None, **extra: Any
) -> Any:
    """client: an optimizer built before; parameters: by default a list of the model's."""
    if client is None:
        extra.setdefault("optimizer", {"type": "SGD", "params": {"lr": 0.1}})
        parameters = list(model.parameters()) if parameters is None else parameters
    config = ds_config(compression, **{"gradient_clipping": 0.0, **extra})
    return xtc_ds.initialize(model=model, config=config, optimizer=client, model_parameters=parameters)[0]


def step(engine: Any, seed: int = 0) -> float:
    loss = engine(**batch(seed=seed)).loss
    engine.backward(loss)
    engine.step()
    return float(loss.detach())


def named(model: nn.Module) -> list[dict[str, Any]]:
    """Two groups of (name, parameter) pairs, the weights apart from the rest."""
    pairs = list(model.named_parameters())
    weights = [pair for pair in pairs if "query.weight" in pair[0]]
    rest = [pair for pair in pairs if "query.weight" not in pair[0]]
    return [{"params": rest}, {"params": weights, "lr": 0.5}]


@pytest.mark.parametrize("given", ["none", "list", "pairs", "groups", "optimizer"])
def test_scores_are_trained_whatever_was_built_before(given: str) -> None:
    model = tiny_model(layers=1)
    torch.manual_seed(5)
    groups = [{"params": [p for _, p in group["params"]], **{k: v for k, v in group.items() if k != "params"}}
              for group in named(model)]  # fmt: skip
    parameters: Any = {
        "none": None, "list": list(model.parameters()), "pairs": list(model.named_parameters()), "groups": groups
    }.get(given)  # fmt: skip
    if given == "optimizer":
        engine = engine_of(model, LEARNED, torch.optim.SGD(groups, lr=0.1))
    elif given == "none":
        config = ds_config(LEARNED, optimizer={"type": "SGD", "params": {"lr": 0.1}}, gradient_clipping=0.0)
        engine = xtc_ds.initialize(model=model, config=config)[0]
    else:
        engine = engine_of(model, LEARNED, parameters=parameters)
    scores = model.get_submodule(QUERY).sparse_mask_scores
    before = scores.detach().clone()
    loss = engine(**batch()).loss
    engine.backward(loss)
    gradient = scores.grad.clone() if scores.grad is not None else None
    engine.step()
    assert not torch.equal(scores, before)
    if given in ("groups", "optimizer") and gradient is not None:
        # They learn at the rate of their weight, not at that of the first group.
        assert torch.allclose(scores, before - 0.5 * gradient, atol=1e-6)
    engine.destroy()


def test_frozen_weights_stay_and_their_scores_are_trained() -> None:
    model = tiny_model(layers=1)
    query = model.get_submodule(QUERY)
    query.weight.requires_grad_(False)
    weight = query.weight.detach().clone()
    engine = engine_of(model, LEARNED, parameters=[p for p in model.parameters() if p.requires_grad])
    before = query.sparse_mask_scores.detach().clone()
    step(engine)
    assert torch.equal(query.weight, weight)
    assert not torch.equal(query.sparse_mask_scores, before)
    engine.destroy()


def test_forward_is_dense_until_the_offset() -> None:
    plain, model = tiny_model(layers=1), tiny_model(layers=1)
    engine = engine_of(model, pruning("row_pruning", {"g": (["query"], {"dense_ratio": 0.5})}, schedule_offset=2))
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    same = []
    for seed in range(4):
        loss = plain(**batch(seed=seed)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        same.append(step(engine, seed) == pytest.approx(loss.item(), abs=1e-6))
    assert same == [True, True, False, False]
    engine.destroy()


def saliency(model: nn.Module, inputs: dict[str, Tensor], share: float = 1.0) -> Tensor:
    """|w * gradient of the masked weight| of the layer as it is now, by blocks of 4 x 1."""
    layer = model.get_submodule(QUERY)
    masked = (layer.weight * layer.sparse_pruning_mask).detach().requires_grad_()
    layer.forward = lambda x: F.linear(x, masked, layer.bias)
    (model(**inputs).loss * share).backward()
    del layer.forward
    model.zero_grad()
    return (layer.weight.detach() * masked.grad).abs().reshape(8, 4, 32).mean(1)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_scores_are_a_moving_sum_of_the_masks_gradients(accumulation: int) -> None:
    model = tiny_model(layers=1)
    engine = engine_of(model, gradual(schedule_offset_stride=1), gradient_accumulation_steps=accumulation)
    layer: Any = model.get_submodule(QUERY)
    expected, kept = torch.zeros(8, 32), []
    for number in range(4):
        found = torch.zeros(8, 32)
        for part in range(accumulation):
            found += saliency(model, batch(seed=2 * number + part), 1 / accumulation)
        mask = sparse_mask(layer)
        for part in range(accumulation):
            step(engine, 2 * number + part)
        if number < 3:
            expected = 0.9 * expected + found
        assert torch.allclose(layer.snip_momentum.scores, expected, atol=1e-7)
        kept.append(int(sparse_mask(layer).sum()))
        best = expected.flatten().sort(descending=True).indices[: kept[-1] // 4]
        if number < 3:
            blocks = sparse_mask(layer).reshape(8, 4, 32)[:, 0].flatten()
            assert sorted(blocks.nonzero().flatten().tolist()) == sorted(best.tolist())
        else:
            assert torch.equal(sparse_mask(layer), mask)
    # 256 blocks; the sparsity rises to 0.75 by 1 - (1 - t / 3)^3.
    blocks_left = [256 - 192 * (1 - (1 - t / 3) ** 3) for t in (1, 2, 3)]
    assert kept[:3] == [4 * -(-int(left * 1000) // 1000) for left in blocks_left]
    assert kept[3] == 256
    engine.destroy()


def test_masks_are_renewed_at_the_stride_only() -> None:
    model = tiny_model(layers=1)
    engine = engine_of(model, gradual(schedule_offset=1, schedule_offset_end=6, schedule_offset_stride=2))
    kept = []
    for number in range(7):
        step(engine, number)
        kept.append(int(sparse_mask(model.get_submodule(QUERY)).sum()))
    # Steps 1, 3, 5 and the end, 6; at the offset itself nothing goes yet.
    assert kept[0] == kept[1] == 1024
    assert kept[1] > kept[2] == kept[3] > kept[4] >= kept[5] == kept[6] == 256
    engine.destroy()


def test_gradient_checkpointing_counts_every_saliency_once() -> None:
    found = []
    for checkpointing in (False, True):
        model = tiny_model(layers=2)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        engine = engine_of(model, gradual())
        step(engine)
        found.append(model.get_submodule(QUERY).snip_momentum.scores.clone())
        engine.destroy()
    assert float(found[0].sum()) > 0
    assert torch.allclose(found[0], found[1], atol=1e-8)


def test_a_frozen_weight_is_scored() -> None:
    model = tiny_model(layers=1)
    model.get_submodule(QUERY).requires_grad_(False)
    engine = engine_of(model, gradual(), parameters=[p for p in model.parameters() if p.requires_grad])
    step(engine)
    assert float(model.get_submodule(QUERY).snip_momentum.scores.sum()) > 0
    engine.destroy()


def test_evaluation_is_not_scored() -> None:
    model = tiny_model(layers=1)
    xtc_ds.compress(model, ds_config(gradual()))
    pending = model.get_submodule(QUERY).snip_momentum.pending
    model.eval()(**batch()).loss.backward()
    assert not pending.any()
    model.train()(**batch()).loss.backward()
    assert pending.any()


@pytest.mark.parametrize("stage", [0, 2])
def test_a_skipped_step_leaves_no_trace_and_the_loss_scale_none_either(stage: int) -> None:
    model = tiny_model(layers=1)
    with allow_fp16():
        engine = engine_of(
            model,
            gradual(),
            fp16={"enabled": True, "initial_scale_power": 8},
            zero_optimization={"stage": stage},
            optimizer={"type": "AdamW", "params": {"lr": 1e-4, "torch_adam": True}},
            zero_force_ds_cpu_optimizer=False,
        )
        momentum = model.get_submodule(QUERY).snip_momentum
        reference = tiny_model(layers=1)
        xtc_ds.compress(reference, ds_config(gradual()))
        expected = saliency(reference, batch())
        engine.backward(engine(**batch()).loss * 1e30)
        assert momentum.pending.any()
        engine.step()
        assert (engine.skipped_steps, engine.xtc.schedule.step) == (1, 0)
        assert not momentum.pending.any()
        assert not momentum.scores.any()
        step(engine)
    assert torch.allclose(momentum.scores, expected, rtol=0.1, atol=float(expected.max()) / 50)
    engine.destroy()


def test_prunings_go_with_quantization_distillation_and_fewer_layers() -> None:
    model = tiny_model(layers=4)
    compression = {
        **block(bits=8, reduction={"keep_number_layer": 2}, kd={"teacher": "self"}, export="float32"),
        **all_prunings(),
    }
    engine = engine_of(model, compression)
    losses = [step(engine, number) for number in range(7)]
    assert all(loss == loss for loss in losses)
    engine.eval()
    inputs = batch(labels=False, seed=9)
    with torch.no_grad():
        trained, shipped = engine(**inputs).logits, xtc_ds.freeze(engine)(**inputs).logits
    assert torch.allclose(trained, shipped, atol=1e-5)
    value: Any = model.get_submodule("bert.encoder.layer.1.attention.self.value")
    w = value.in_force(value.weight, value.bias)[0]
    # A quarter of the blocks, of which some codes are 0 anyway.
    assert 0 < int((w != 0).sum()) <= 256
    assert len(w.unique()) <= 256
    engine.destroy()
