"""MoQ in DeepSpeed 0.19.6: the quantizer in the optimizer's step; only imported where it is installed."""

from __future__ import annotations

from typing import Any, cast

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.compression.compress import init_compression
from deepspeed.runtime.quantize import Quantizer
from torch import Tensor, nn

from tests.parity.blocks import technique
from tests.parity.old_engine import ds_config


def bits_of(weight: Tensor, master: Tensor) -> int | None:
    """Which number of bits makes ``master`` into ``weight``; None: it is not quantized; -1: it is so more than once."""
    if torch.equal(weight, master):
        return None
    quantizer = Quantizer(q_groups=1, q_type="symmetric", q_rounding="nearest")
    for bits in range(1, 13):
        compute = {1: quantizer.quantize_binary, 2: quantizer.quantize_tenary}.get(bits)
        expected = compute(master) if compute else quantizer.quantize_highbit(master, bits)
        if torch.equal(weight, expected):
            return bits
    return -1


def moq_forwards(
    offset: int, start: int, target: int, period: int, steps: int, accumulation: int = 1, stage: int = 0
) -> list[int | None]:
    """Bits of the weight in each micro-forward of a training whose learning rate is 0."""
    params = {"start_bits": start, "target_bits": target, "quantization_period": period}
    shared: dict[str, Any] = {"quantize_weight_in_forward": False, "schedule_offset": offset}
    block = technique("weight_quantization", params, ["^0$"], **shared)
    fp16 = {"enabled": True, "loss_scale": 1.0}
    optimizer = {"type": "Adam", "params": {"lr": 0.0, "torch_adam": True}}
    config = ds_config(block, accumulation, fp16=fp16, optimizer=optimizer, zero_optimization={"stage": stage})
    torch.manual_seed(0)
    layer = nn.Linear(16, 16)
    layer.weight.data = torch.randn(16, 16).half().float()
    master = layer.weight.data.half()
    model = init_compression(nn.Sequential(layer), config)
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
    seen = []
    for _ in range(steps * accumulation):
        loss = engine(torch.ones(1, 16).half()).float().sum()
        seen.append(bits_of(engine.module[0].weight.detach().clone(), master))
        engine.backward(loss)
        engine.step()
    return seen


def mixed_sequence(ratio: float, start: int, target: int, period: int, steps: int) -> dict[str, Any]:
    """Bits, share of the real weight and mixed weights after each call of the runtime quantizer.

    The weights are given anew before each call, as the engine does from its float32 copy.
    """
    quantizer = Quantizer(q_groups=1, q_mixed_fp16=True, q_change_ratio=ratio, q_type="symmetric", q_rounding="nearest")
    values = torch.tensor([-1.0, -0.8125, -0.40625, 0.09375, 0.28125, 0.53125, 0.6875, 0.96875]).reshape(2, 4)
    weight: Any = nn.Parameter(values.clone())
    weight.start_bits, weight.target_bits, weight.q_period = start, target, period
    record: dict[str, Any] = {"ratio": ratio, "start": start, "target": target, "period": period}
    record |= {"values": values.tolist(), "bits": [], "real_share": [], "weights": []}
    for _ in range(steps):
        weight.data = values.clone()
        quantizer.quantize([[weight]], overflow=False, eigenvalue_enabled=False, block_eigenvalue=None)
        record["bits"].append(weight.start_bits)
        record["real_share"].append(quantizer.quantize_real_ratio)
        record["weights"].append(weight.data.tolist())
    return record


def shared_share(ratio: float, steps: int) -> list[float]:
    """The share of the real weight in a weight whose bits never fall, beside one whose bits do."""
    quantizer = Quantizer(q_groups=1, q_mixed_fp16=True, q_change_ratio=ratio, q_type="symmetric", q_rounding="nearest")
    still, falling = (cast(Any, nn.Parameter(torch.ones(2, 2))) for _ in range(2))
    still.start_bits, still.target_bits, still.q_period = 8, 8, 1
    falling.start_bits, falling.target_bits, falling.q_period = 8, 4, 2
    shares = []
    for _ in range(steps):
        quantizer.quantize([[falling, still]], overflow=False, eigenvalue_enabled=False, block_eigenvalue=None)
        shares.append(quantizer.quantize_real_ratio)
    return shares


def moq_embedding(values: list[list[float]], bits: int) -> list[list[float]]:
    """A table of weights after the runtime quantizer, in one group."""
    quantizer = Quantizer(q_groups=1, q_type="symmetric", q_rounding="nearest")
    table: Any = nn.Parameter(torch.tensor(values))
    table.start_bits, table.target_bits, table.q_period = bits, bits, 1
    quantizer.quantize([[table]], overflow=False, eigenvalue_enabled=False, block_eigenvalue=None)
    result: list[list[float]] = table.data.tolist()
    return result


def stochastic_bounds(bits: int, kind: str, draws: int = 4000) -> dict[str, Any]:
    """Smallest, largest and mean value of each weight under stochastic rounding."""
    torch.manual_seed(0)
    quantizer = Quantizer(q_groups=1, q_type=kind, q_rounding="stochastic")
    values = torch.tensor([-1.0, -0.8125, -0.40625, 0.09375, 0.28125, 0.53125, 0.6875, 0.96875]).reshape(2, 4)
    drawn = torch.stack([quantizer.quantize_highbit(values.clone(), bits) for _ in range(draws)])
    bounds = {"low": drawn.amin(0).tolist(), "high": drawn.amax(0).tolist(), "mean": drawn.mean(0).tolist()}
    return {"bits": bits, "kind": kind, "values": values.tolist(), **bounds}


def moq_facts() -> dict[str, Any]:
    """All of the above for a few settings. Needs an initialised process group."""
    # This mode is for fp16 only, which DeepSpeed refuses on most CPUs though torch has it.
    get_accelerator().is_fp16_supported = lambda: True
    moq = [(0, 8, 4, 1, 10, 1, 0), (2, 8, 4, 1, 10, 1, 0), (1, 6, 6, 0, 4, 1, 0), (0, 6, 3, 0, 5, 1, 2)]
    moq += [(0, 8, 3, 3, 5, 2, 0), (1, 8, 3, 2, 5, 2, 0), (3, 4, 1, 1, 14, 1, 2)]
    names = ("offset", "start", "target", "period", "steps", "accumulation", "stage")
    mixed = [(0.25, 8, 4, 2, 24), (0.125, 4, 4, 1, 12), (0.3, 5, 3, 4, 20), (0.001, 8, 7, 1, 6)]
    table = [[0.5, -1.0, 0.375, 0.25], [4.0, 3.0, -2.5, 1.125], [0.0625, 0.015625, -0.03125, 0.046875]]
    return {
        "moq": [{**dict(zip(names, each, strict=True)), "forwards": moq_forwards(*each)} for each in moq],
        "mixed": [mixed_sequence(*each) for each in mixed],
        "shared_share": {"ratio": 0.125, "shares": shared_share(0.125, 12)},
        "moq_embedding": {"bits": 8, "values": table, "weights": moq_embedding(table, 8)},
        "stochastic": [stochastic_bounds(bits, kind) for bits in (4, 8) for kind in ("symmetric", "asymmetric")],
    }
