"""The formats give the numbers of DeepSpeed 0.19.6, bit for bit, but for the named differences.

``golden/`` holds what that release computed; ``make_golden.py`` says how it was made.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.parity.blocks import weights
from tests.parity.differences import DIFFERENCES, ELEMENTWISE, PINNED, pins
from xtc_ds.config import parse_block
from xtc_ds.errors import ConfigError
from xtc_ds.formats import (
    ActivationFormat,
    Grouping,
    fake_quantize_activation,
    fake_quantize_weight,
    format_for_bits,
    get_format,
)
from xtc_ds.layers.range_observer import RangeObserver
from xtc_ds.techniques.weight_quantization.schedule import BitSchedule, bits_at

GOLDEN = Path(__file__).parent / "golden"
FACTS: dict[str, Any] = json.loads((GOLDEN / "facts.json").read_text())
QUANTIZERS = {name: index for index, name in enumerate(FACTS["quantizers"])}


def load(name: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / name, allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


WEIGHTS = load("quantizers.npz")
LAYERS = load("layers.npz")
CASES = [key for key in WEIGHTS if key.rpartition("/")[2].isdigit()]


def case_tensors(case: str, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """(w, old, new), each (G, N)."""
    w = WEIGHTS[case.rpartition("/")[0]]
    groups = int(case.rpartition("/")[2])
    old = WEIGHTS[case][QUANTIZERS[name]]
    new = fake_quantize_weight(w, get_format(name), Grouping("group", groups))
    assert new.shape == old.shape
    assert new.dtype == old.dtype
    return w.reshape(groups, -1), old.reshape(groups, -1), new.reshape(groups, -1)


def differing(old: Tensor, new: Tensor) -> Tensor:
    """Where the bits of two float32 tensors are not the same."""
    return old.contiguous().view(torch.int32) != new.contiguous().view(torch.int32)


@cache
def explain(case: str, name: str) -> tuple[Counter[str], Tensor]:
    """How many elements each named difference explains, and the elements that none does."""
    w, old, new = case_tensors(case, name)
    unexplained = differing(old, new)
    counts: Counter[str] = Counter()
    for title, rule in ELEMENTWISE.items():
        where = rule(name, w, old, new) & unexplained
        counts[title] += int(where.sum())
        unexplained &= ~where
    return counts, unexplained


def test_the_golden_files_are_of_the_release_that_had_the_library() -> None:
    assert FACTS["versions"]["deepspeed"] == "0.19.6"
    assert len(CASES) >= 30
    assert sum(path.stat().st_size for path in GOLDEN.iterdir()) < 400_000


def test_every_named_difference_is_shown_by_a_test() -> None:
    for room in ("engine", "models", "sixteen_bit"):
        import_module(f"tests.parity.test_parity_{room}")
    assert PINNED | set(ELEMENTWISE) == set(DIFFERENCES)


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("case", CASES)
def test_weights_are_the_old_ones_bit_for_bit(case: str, name: str) -> None:
    counts, unexplained = explain(case, name)
    if case.partition("/")[0] in FACTS["inexact_inputs"] and name in ("binary", "ternary"):
        # The order of the float sum behind alpha is the machine's own.
        _, old, new = case_tensors(case, name)
        torch.testing.assert_close(new, old, rtol=1e-6, atol=0)
        return
    assert not bool(unexplained.any()), f"{case} {name}: {int(unexplained.sum())} elements, {dict(counts)}"


@pytest.mark.parametrize("title", ELEMENTWISE)
def test_every_named_difference_really_occurs(title: str) -> None:
    assert sum(explain(case, name)[0][title] for case in CASES for name in QUANTIZERS) > 0


@pins("scales of 1 and 2 bits are summed more exactly")
def test_the_scale_of_a_large_tensor() -> None:
    w = torch.randn(1, 3072 * 768, generator=torch.Generator().manual_seed(0)) * 0.02
    mean = w.double().abs().mean()
    kept = w.double().abs()[w.abs() > 0.7 * mean]
    # What the old library called for either scale.
    old = w.norm(p=1, dim=1).div(w.shape[1])
    assert abs(float(old / mean) - 1) > 1e-5
    for name, exact in (("binary", mean), ("ternary", kept.mean())):
        new = fake_quantize_weight(w, get_format(name), Grouping()).abs().max()
        assert abs(float(new / exact) - 1) < 1e-6, name


@pins("target_bits above 8 are an error")
@pytest.mark.parametrize("bits", [9, 12, 16])
def test_target_bits_that_no_file_has(bits: int) -> None:
    if f"int{bits}" in QUANTIZERS:
        assert bool(WEIGHTS["normal/1"][QUANTIZERS[f"int{bits}"]].isfinite().all())
    with pytest.raises(ConfigError, match=f"target_bits: unknown value; found {bits}; allowed: 1, 1.58 or an integer"):
        parse_block(weights(bits))


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("case", ["far_from_zero/4", "spread/4", "all_negative/4", "all_positive/1", "two_values/1"])
def test_weights_that_are_not_zero_nor_constant_are_equal_numbers(case: str, name: str) -> None:
    w, old, new = case_tensors(case, name)
    assert bool(w.all())
    assert bool(old.isfinite().all())
    assert torch.equal(new, old)


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("case", [key for key in WEIGHTS if "/" not in key])
def test_gradients_are_the_old_ones(case: str, name: str) -> None:
    w = WEIGHTS[case].clone().requires_grad_()
    incoming = (torch.arange(w.numel()).reshape(w.shape) - w.numel() // 2) * 8.0
    fake_quantize_weight(w, get_format(name), Grouping()).backward(incoming)  # type: ignore[no-untyped-call]
    assert w.grad is not None
    assert torch.equal(w.grad, WEIGHTS[f"{case}/gradient"][QUANTIZERS[name]])


def layer_cases(kind: str) -> list[str]:
    return sorted({key.partition("/")[0] for key in LAYERS if key.startswith(kind)})


@pytest.mark.parametrize("case", layer_cases("linear"))
def test_a_linear_layer(case: str) -> None:
    _, bits, groups, kind, calibration, activation_bits = case.split(":")
    old = {key.partition("/")[2]: value for key, value in LAYERS.items() if key.startswith(f"{case}/")}
    w, bias, x = (old[key].clone().requires_grad_() for key in ("weight", "bias", "x"))
    symmetric = kind == "symmetric"
    quantized_w = fake_quantize_weight(w, format_for_bits(int(bits), symmetric), Grouping("group", int(groups)))
    quantized_x: Tensor = x
    if calibration != "none":
        activation = ActivationFormat(int(activation_bits), symmetric, "static" if "range" in old else "dynamic")
        quantized_x = fake_quantize_activation(x, activation, old.get("range"))
        assert ("range" in old) == (calibration == "static")
    y = torch.nn.functional.linear(quantized_x, quantized_w, bias)
    # The order of the sums in a matrix product is the machine's own; a wrong code is off by 1e-3 or more.
    torch.testing.assert_close(y.detach(), old["y"], rtol=1e-5, atol=1e-5)
    y.backward((torch.arange(y.numel()).reshape(y.shape) - y.numel() // 2) * 8.0)  # type: ignore[no-untyped-call]
    for leaf, name in ((w, "weight"), (x, "x"), (bias, "bias")):
        torch.testing.assert_close(leaf.grad, old[f"{name}_gradient"], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("case", layer_cases("embedding"))
def test_an_embedding_has_a_scale_for_each_row(case: str) -> None:
    _, bits, kind = case.split(":")
    old = {key.partition("/")[2]: value for key, value in LAYERS.items() if key.startswith(f"{case}/")}
    w = old["weight"].clone().requires_grad_()
    weight_format = format_for_bits(int(bits), kind == "symmetric")
    y = torch.nn.functional.embedding(old["ids"], fake_quantize_weight(w, weight_format, Grouping("row")), 0)
    # Token 0 is padding, its row is zero: NaN in the old library but for 1 bit.
    is_padding = old["ids"] == 0
    assert bool(old["y"][is_padding].isnan().all()) == (bits != "1")
    assert torch.equal(y[is_padding], torch.zeros_like(y[is_padding]))
    assert torch.equal(y[~is_padding], old["y"][~is_padding])
    y.backward((torch.arange(y.numel()).reshape(y.shape) - y.numel() // 2) * 8.0)  # type: ignore[no-untyped-call]
    assert w.grad is not None
    assert torch.equal(w.grad, old["weight_gradient"])


@pytest.mark.parametrize("fact", FACTS["bits"], ids=lambda fact: f"{fact['start']}-{fact['target']}-{fact['period']}")
def test_bits_fall_as_they_did(fact: dict[str, Any]) -> None:
    start, target, period = fact["start"], fact["target"], fact["period"]
    assert [bits_at(step, start, target, period) for step in range(len(fact["bits"]))] == fact["bits"]
    schedule = BitSchedule(offset=0, start_bits=start, target_bits=target, period=period)
    assert schedule.last_change == fact["bits"].index(target)


@pytest.mark.parametrize("fact", FACTS["enabled"], ids=lambda fact: f"{fact['weight_offset']}")
def test_techniques_start_in_the_forward_in_which_they_did(fact: dict[str, Any]) -> None:
    for technique in ("weight", "activation"):
        schedule = BitSchedule(offset=fact[f"{technique}_offset"], start_bits=1, target_bits=1, period=0)
        for forward in fact["forwards"]:
            assert (schedule.at(forward["applied_steps"]) is not None) == forward[technique]
    steps = [forward["applied_steps"] for forward in fact["forwards"]]
    assert steps == [index // fact["gradient_accumulation_steps"] for index in range(len(steps))]


def test_the_static_range_moves_as_it_did() -> None:
    observer = RangeObserver().train()
    for batch, expected in zip(FACTS["static_range"]["batches"], FACTS["static_range"]["ranges"], strict=True):
        observer(torch.tensor(batch))
        assert observer.x_min_max.tolist() == pytest.approx(expected, rel=1e-6)
