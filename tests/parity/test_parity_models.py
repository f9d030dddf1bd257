"""Whole layers and models, compressed by a config, give the numbers of DeepSpeed 0.19.6: in the forward and the
backward, in their masks, and in the weights after ``redundancy_clean``.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import xtc_ds
from tests.parity.arrays import as_array, load_arrays
from tests.parity.blocks import LINEAR_PRUNINGS, pruned
from tests.parity.cases import CASES, DIFFERENT, Case
from tests.parity.comparison import disagreements
from tests.parity.differences import pins
from tests.parity.models import MODELS, fill, model_input
from tests.parity.new_library import prepare, run
from tests.parity.students import STUDENTS
from tests.pruning.masks import kept_units, pruning_rows, sparse_mask
from xtc_ds.compat.deepspeed import redundancy_clean, student_initialization
from xtc_ds.errors import EngineError
from xtc_ds.layers import compressed_layers, set_step

GOLDEN = Path(__file__).parent / "golden"
FACTS: dict[str, Any] = json.loads((GOLDEN / "facts.json").read_text())["engine"]


@cache
def recorded(name: str) -> dict[str, NDArray[Any]]:
    """What the old library gave for a case."""
    arrays = load_arrays(GOLDEN / "models.npz")
    return {key.partition(":")[2]: value for key, value in arrays.items() if key.partition(":")[0] == name}


@pytest.mark.parametrize("name", [*CASES, "even_stack/two_pairs_in_two_groups"])
def test_a_case_comes_out_as_it_did(name: str) -> None:
    case = (CASES | DIFFERENT)[name]
    assert disagreements(case, recorded(name), run(case)) == []


def test_the_cases_reach_what_they_are_for() -> None:
    """Masks that keep a part, quantized weights, smaller models: a golden file without them would prove nothing."""
    for name, case in CASES.items():
        old = recorded(name)
        masks = [value for key, value in old.items() if key.startswith("mask/") and value.size > 2]
        assert all(mask.any() for mask in masks)
        assert any(not mask.all() for mask in masks) or not masks or "0.999" in name
        assert all(np.isfinite(value).all() for value in old.values()), name
        assert len(masks) == sum(key.endswith("pruning") for key in case.block) or case.model in ("one", "stack")
    assert recorded("stack/row_l1")["clean/fc1.weight"].shape == (10, 16)
    assert recorded("attention/head_topk")["clean/query.weight"].shape == (8, 16)
    assert recorded("conv_net/channel_l1")["clean/bn1.running_mean"].shape == (4,)


@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_starts_from_the_same_layers(name: str) -> None:
    teacher, student = MODELS["layered_4"](), MODELS["layered_2"]()
    fill(teacher, "distinct", seed=1)
    fill(student, "distinct", seed=2)
    block = {"layer_reduction": copy.deepcopy(STUDENTS[name])}
    student_initialization(student, teacher, {"compression_training": block})
    old = load_arrays(GOLDEN / "students.npz")
    for key, value in student.state_dict().items():
        assert np.array_equal(as_array(value), old[f"{name}:{key}"]), key


@pins("a pruned weight is +0, not -0")
def test_a_pruned_weight_is_a_positive_zero() -> None:
    name = "linear/sparse_l1/distinct"
    old, new = recorded(name)["clean/0.weight"], run(CASES[name])["clean/0.weight"]
    assert bool((np.signbit(old) & (old == 0)).any())
    assert not bool((np.signbit(new) & (new == 0)).any())


@pins("each pair of related modules loses its own rows")
def test_two_pairs_of_related_modules() -> None:
    wrong, right = (recorded(f"even_stack/two_pairs_in_{groups}") for groups in ("one_group", "two_groups"))
    assert not np.array_equal(wrong["clean/head.weight"], right["clean/head.weight"])
    new = run(DIFFERENT["even_stack/two_pairs_in_one_group"])
    assert disagreements(DIFFERENT["even_stack/two_pairs_in_two_groups"], right, new) == []


@pins("start_bits fall to target_bits in the forward too")
def test_bits_fall_in_the_forward() -> None:
    case = DIFFERENT["linear/falling_bits"]
    old = recorded(case.name)
    four_bits = recorded("linear/w4_g16")
    assert np.array_equal(old["y"], four_bits["y"])
    model, _ = prepare(case)
    x = model_input(case.model, case.seed)
    # 8, 7, 6, 6, 5, 5, 5, 5, 4 bits.
    same = [bool(np.array_equal(as_array(at_step(model, x, step)), old["y"])) for step in range(10)]
    assert same == [False] * 8 + [True] * 2
    assert np.array_equal(run(case)["clean/0.weight"], old["clean/0.weight"])


def at_step(model: nn.Module, x: torch.Tensor, step: int) -> torch.Tensor:
    set_step(model, step)
    y: torch.Tensor = model(x)
    return y


@pins("redundancy_clean writes the final values of MoQ too")
def test_clean_quantizes_what_the_optimizer_did() -> None:
    case = DIFFERENT["linear/moq"]
    old, new, four_bits = recorded(case.name), run(case), recorded("linear/w4_g16")
    plain = MODELS[case.model]()
    fill(plain, case.values, case.seed)
    assert np.array_equal(old["clean/0.weight"], as_array(plain.state_dict()["0.weight"]))
    assert disagreements(case, four_bits, new) == []


@pins("padding_mode of a Conv2d is kept")
def test_circular_padding() -> None:
    case = DIFFERENT["circular/w8"]
    old, new = recorded(case.name), run(case)
    assert np.array_equal(old["clean/0.weight"], new["clean/0.weight"])
    weight, bias = (torch.from_numpy(new[f"clean/0.{name}"]) for name in ("weight", "bias"))
    x = model_input(case.model, case.seed)
    zeros = torch.nn.functional.conv2d(x, weight, bias, padding=1)
    circular = torch.nn.functional.conv2d(torch.nn.functional.pad(x, (1, 1, 1, 1), "circular"), weight, bias)
    torch.testing.assert_close(torch.from_numpy(old["y"]), zeros)
    torch.testing.assert_close(torch.from_numpy(new["y"]), circular)
    assert not torch.allclose(zeros, circular)


@pins("the first batch sets a static range exactly")
@pytest.mark.parametrize("name", ["linear/a8_symmetric_static+all", "convolution/a8_symmetric_static"])
def test_the_first_batch_of_a_static_range(name: str) -> None:
    case = CASES[name]
    batches = [model_input(case.model, case.seed + 1 + batch) for batch in range(case.calibrate)]
    ends = [torch.stack([batch.min(), batch.max()]) for batch in batches]

    def mean(start: torch.Tensor, rest: list[torch.Tensor]) -> NDArray[Any]:
        for batch in rest:
            start = start * 0.95 + batch * (1 - 0.95)
        return as_array(start)

    key = "clean/0.activation_quantizer.x_min_max"
    assert np.array_equal(recorded(name)[key], mean(ends[0], ends))
    assert np.array_equal(run(case)[key], mean(ends[0], ends[1:]))


@pins("inputs from pruned heads, rows and channels do not widen the range of activations")
def test_activations_beside_pruned_heads() -> None:
    case = DIFFERENT["attention/head_topk+w2+a8"]
    old, new = recorded(case.name), run(case)
    scale = np.abs(old["clean_y"]).max()
    assert np.abs(old["y"] - old["clean_y"]).max() > 1e-3 * scale
    assert np.abs(new["y"] - new["clean_y"]).max() < 1e-5 * scale
    assert np.abs(old["clean_y"] - new["clean_y"]).max() < 1e-5 * scale


@pins("related modules read zeros from pruned rows and channels")
@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].reads_constants])
def test_constants_that_a_norm_makes_of_pruned_channels(name: str) -> None:
    old, new = recorded(name), run(CASES[name])
    scale = np.abs(old["clean_y"]).max()
    assert np.abs(old["y"] - old["clean_y"]).max() > 1e-2 * scale
    assert np.abs(new["y"] - new["clean_y"]).max() < 1e-5 * scale
    # The old library trained the layer behind on those constants, too.
    gone = ~old["mask/conv1/channel"]
    assert np.abs(old["gradient/conv2.weight"][:, gone]).max() > 0
    assert not new["gradient/conv2.weight"][:, gone].any()


@pins("a static range that saw no data is an error")
@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
def test_a_static_range_without_data(kind: str) -> None:
    case = DIFFERENT[f"linear/{kind}_uncalibrated"]
    old, bias = recorded(case.name)["y"], recorded(case.name)["clean/0.bias"]
    assert (np.isnan(old).all(axis=1) | (old == bias).all(axis=1)).all()
    with pytest.raises(EngineError, match="not calibrated"):
        run(case)


@pins("head pruning by l1 works")
def test_head_pruning_by_l1_keeps_the_largest_blocks() -> None:
    assert FACTS["head_l1"] == "NotImplementedError"
    case = Case("head_l1", "linear", pruned("head", 0.5, "l1"))
    model, config = prepare(case)
    layer = dict(compressed_layers(model))["0"]
    weight = model.state_dict()["0.weight"]
    sizes = weight.reshape(8, 4, 4).abs().sum(dim=(0, 2))
    (rule,) = pruning_rows(layer)
    kept = kept_units(layer, rule)  # type: ignore[arg-type]
    assert int(kept.sum()) == 2
    assert sizes[kept].min() > sizes[~kept].max()
    redundancy_clean(model, config)
    assert bool((model.state_dict()["0.weight"].reshape(8, 4, 4)[:, ~kept] == 0).all())


@pytest.mark.parametrize("name", LINEAR_PRUNINGS)
def test_ties_are_settled_alike_each_time(name: str) -> None:
    """The old sort was not stable; here equal scores always lead to one mask."""
    case = CASES[f"linear/{name}/ties"]
    first, second = run(case), run(case)
    assert all(np.array_equal(first[key], second[key]) for key in first)


def test_a_share_just_above_a_whole_number() -> None:
    """0.55 * 100 is 55.00000000000001 in floating point, so 56 weights stay, as they did."""
    single = "square/sparse_0.55"
    assert int(recorded(single)["mask/0/sparse"].sum()) == 56
    model = MODELS["square"]()
    xtc_ds.compress(model, {"compression_training": copy.deepcopy(CASES[single].block)})
    mask = sparse_mask(dict(compressed_layers(model))["0"])
    assert mask is not None
    assert int(mask.sum()) == 56
