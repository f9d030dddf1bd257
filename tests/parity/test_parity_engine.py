"""What is in force in which forward: as under DeepSpeed 0.19.6's engine, but for the named differences."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import xtc_ds
from tests.parity.blocks import technique, weights
from tests.parity.cases import CASES
from tests.parity.differences import pins
from xtc_ds.layers import set_step

FACTS: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "facts.json").read_text())["engine"]


def compressed(layer: nn.Module, block: dict[str, Any]) -> nn.Sequential:
    model = nn.Sequential(layer)
    xtc_ds.compress(model, {"compression_training": copy.deepcopy(block)})
    return model


def weight_in_force(model: nn.Sequential, step: int) -> Tensor:
    """What a Linear without bias multiplies with after ``step`` applied steps, (O, I)."""
    set_step(model, step)
    linear = model[0]
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        seen: Tensor = model(torch.eye(linear.in_features)).t()
    return seen


def positive_linear() -> nn.Linear:
    linear = nn.Linear(4, 4)
    nn.init.uniform_(linear.weight, 0.5, 1)
    nn.init.uniform_(linear.bias, 0.5, 1)
    return linear


@pytest.mark.parametrize("fact", FACTS["pruning"], ids=lambda fact: "-".join(map(str, fact["offsets"].values())))
@pytest.mark.parametrize("what", ["row", "head", "channel"])
def test_pruning_starts_in_the_forward_in_which_it_did(what: str, fact: dict[str, Any]) -> None:
    shared = {"method": "topk", "schedule_offset": fact["offsets"][what]} | ({"num_heads": 2} if what == "head" else {})
    block = technique(f"{what}_pruning", {"dense_ratio": 0.5}, ["^0$"], **shared)
    layer = positive_linear() if what != "channel" else nn.Conv2d(1, 4, 1)
    model = compressed(layer, block)
    x = torch.ones(1, 4) if what != "channel" else torch.ones(1, 1, 1, 1)
    set_step(model, 0)
    plain = torch.nn.functional.linear(x, layer.weight.flatten(1)[:, : x.numel()], layer.bias)
    for forward in fact["forwards"]:
        set_step(model, forward["applied_steps"])
        in_force = not torch.allclose(model(x).flatten(), plain.flatten())
        assert in_force == forward[what], forward


@pins("sparse pruning by l1 and topk trains")
@pytest.mark.parametrize("method", ["l1", "topk"])
def test_sparse_pruning_starts_at_its_offset(method: str) -> None:
    assert FACTS["sparse"][method].startswith("KeyError")
    block = technique("sparse_pruning", {"dense_ratio": 0.5}, ["^0$"], method=method, schedule_offset=1)
    model = compressed(nn.Linear(4, 4, bias=False), block)
    assert int((weight_in_force(model, 0) == 0).sum()) == 0
    assert [int((weight_in_force(model, step) == 0).sum()) for step in (1, 2, 9)] == [8, 8, 8]


@pins("channel pruning by l1 works")
def test_channel_pruning_by_l1_is_that_of_the_sums() -> None:
    """The golden cases of channel_l1 were recorded with the norm mended to the sum of magnitudes that it stands for."""
    assert FACTS["channel_l1"] == "RuntimeError"
    assert sum("channel_l1" in name for name in CASES) >= 5


def start_bits_schedule(fact: dict[str, Any]) -> list[float | None]:
    """Bits in each micro-forward here."""
    params = {"start_bits": fact["start"], "target_bits": fact["target"], "quantization_period": fact["period"]}
    shared: dict[str, Any] = {"quantize_weight_in_forward": False, "schedule_offset": fact["offset"]}
    layer = nn.Linear(16, 16, bias=False)
    nn.init.normal_(layer.weight)
    model = compressed(layer, technique("weight_quantization", params, ["^0$"], **shared))
    seen: list[float | None] = []
    for step in range(fact["steps"]):
        found = [bits for bits in range(fact["start"], fact["target"] - 1, -1) if is_in_bits(model, step, bits)]
        assert len(found) <= 1
        if not found:
            assert torch.equal(weight_in_force(model, step), layer.weight)
        seen += [found[0] if found else None] * fact["accumulation"]
    return seen


def is_in_bits(model: nn.Sequential, step: int, bits: int) -> bool:
    linear = nn.Linear(16, 16, bias=False)
    linear.weight.data = model[0].weight.data.clone()  # type: ignore[operator]
    reference = weight_in_force(compressed(linear, weights(bits)), 0)
    return torch.equal(weight_in_force(model, step), reference)


@pins("MoQ has start_bits in the forward of its offset")
@pins("MoQ quantizes once per step")
@pytest.mark.parametrize("fact", FACTS["moq"], ids=lambda fact: "-".join(map(str, list(fact.values())[:6])))
def test_bits_of_moq(fact: dict[str, Any]) -> None:
    old, new = fact["forwards"], start_bits_schedule(fact)
    assert len(old) == len(new)
    offset, accumulation = fact["offset"], fact["accumulation"]
    first = offset * accumulation
    assert new[:first] == old[:first] == [None] * first
    assert new[first : first + accumulation] == [fact["start"]] * accumulation
    if offset:
        assert old[first : first + accumulation] == [None] * accumulation
        assert new[first + accumulation :] == old[first + accumulation :]
    elif accumulation == 1:
        # One step earlier.
        assert new[1:] == old[:-1]
        assert old[0] == new[1]
    else:
        # The second micro-batch saw weights quantized twice, and the count of steps ran ahead from then on.
        assert -1 in old[:accumulation]
        assert all(earlier is None or earlier <= later for earlier, later in zip(old[2:], new[2:], strict=True))


@pins("the real share of mixed quantization stops at 0")
@pytest.mark.parametrize("fact", FACTS["mixed"], ids=lambda fact: f"{fact['ratio']}-{fact['start']}-{fact['target']}")
def test_mixed_quantization(fact: dict[str, Any]) -> None:
    params = {"start_bits": fact["start"], "target_bits": fact["target"], "quantization_period": fact["period"]}
    mixing = {"enabled": True, "quantize_change_ratio": fact["ratio"]}
    shared: dict[str, Any] = {"quantize_weight_in_forward": False, "fp16_mixed_quantize": mixing}
    layer = nn.Linear(4, 2, bias=False)
    layer.weight.data = torch.tensor(fact["values"])
    model = compressed(layer, technique("weight_quantization", params, ["^0$"], **shared))
    below = 0
    for step, (share, expected) in enumerate(zip(fact["real_share"], fact["weights"], strict=True), start=1):
        seen = weight_in_force(model, step)
        if share < -1e-9:
            below += 1
            seen, expected = share * layer.weight.detach() + (1 - share) * seen, torch.tensor(expected)
        torch.testing.assert_close(seen, torch.as_tensor(expected), rtol=1e-5, atol=1e-6)
    assert below == (1 if fact["ratio"] == 0.3 else 0)


@pins("each weight has a real share of its own")
def test_the_real_share_of_a_weight_whose_bits_stay() -> None:
    fact = FACTS["shared_share"]
    # Back at 1 when the bits of the other weight fell, at its steps 2, 4 and 8.
    assert [step for step, share in enumerate(fact["shares"], start=1) if share == 1] == [2, 4, 8]
    shared: dict[str, Any] = {
        "quantize_weight_in_forward": False,
        "fp16_mixed_quantize": {"enabled": True, "quantize_change_ratio": fact["ratio"]},
    }
    block = technique("weight_quantization", {"start_bits": 8, "target_bits": 8}, ["^1$"], **shared)
    falling = {"params": {"start_bits": 8, "target_bits": 4, "quantization_period": 2}, "modules": ["^0$"]}
    block["weight_quantization"]["different_groups"]["falling"] = falling
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    plan = xtc_ds.compress(model, {"compression_training": block})
    still = next(row for row in plan.weights if row.module == "1")
    shares = [still.schedule.float_share_at(step, still.change_ratio) for step in range(1, 13)]
    assert shares == [max(0.0, 1 - fact["ratio"] * step) for step in range(1, 13)]


@pins("an embedding has one scale per row in MoQ too")
@pytest.mark.parametrize("granularity", ["auto", "tensor"])
def test_an_embedding_in_moq(granularity: str) -> None:
    fact = FACTS["moq_embedding"]
    table = nn.Embedding(3, 4)
    table.weight.data = torch.tensor(fact["values"])
    params = {"start_bits": fact["bits"], "target_bits": fact["bits"]}
    shared: dict[str, Any] = {"quantize_weight_in_forward": False, "granularity": granularity}
    model = compressed(table, technique("weight_quantization", params, ["^0$"], **shared))
    seen = model(torch.arange(3)).detach()
    per_row = nn.Linear(4, 3, bias=False)
    per_row.weight.data = table.weight.data.clone()
    expected = weight_in_force(compressed(per_row, weights(fact["bits"], 3)), 0)
    assert torch.equal(seen, expected if granularity == "auto" else torch.tensor(fact["weights"]))
    assert not torch.equal(expected, torch.tensor(fact["weights"]))


@pytest.mark.parametrize("fact", FACTS["stochastic"], ids=lambda fact: f"{fact['bits']}-{fact['kind']}")
def test_stochastic_rounding_is_as_random(fact: dict[str, Any]) -> None:
    """The same two neighbours on the grid for each weight, and the same mean."""
    params = {"start_bits": fact["bits"], "target_bits": fact["bits"]}
    shared: dict[str, Any] = {
        "quantize_weight_in_forward": False,
        "rounding": "stochastic",
        "quantization_type": fact["kind"],
    }
    layer = nn.Linear(4, 2, bias=False)
    layer.weight.data = torch.tensor(fact["values"])
    model = compressed(layer, technique("weight_quantization", params, ["^0$"], **shared)).train()
    draws = 500
    drawn = torch.stack([weight_in_force(model, step) for step in range(draws)])
    assert drawn.amin(0).tolist() == fact["low"]
    assert drawn.amax(0).tolist() == fact["high"]
    step_size = drawn.amax(0) - drawn.amin(0)
    difference = (drawn.mean(0) - torch.tensor(fact["mean"])).abs()
    assert bool((difference <= 5 * 0.5 * step_size / draws**0.5 + 1e-6).all())
