"""Stored weights: bytes as told, decoded as packed, JSON both ways, and nothing that is read is trusted."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xtc_ds.errors import FormatError
from xtc_ds.formats import Encoded, Grouping, format_names, get_format
from xtc_ds.storage import (
    Coded,
    Dense,
    Factored,
    Masked,
    Places,
    Shared,
    Sparse,
    StoredWeight,
    pruned_weight,
    weight_from_json,
    weight_to_json,
)

STORABLE = [name for name in format_names() if get_format(name).bits <= 8]
SHAPES = st.one_of(
    st.tuples(st.integers(1, 7), st.integers(1, 9)),
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
)


@st.composite
def coded_weights(draw: st.DrawFn) -> Coded:
    shape = draw(SHAPES)
    groups = draw(st.sampled_from([n for n in range(1, math.prod(shape) + 1) if math.prod(shape) % n == 0]))
    grouping = draw(st.sampled_from([Grouping(), Grouping("row"), Grouping("group", groups)]))
    return Coded(get_format(draw(st.sampled_from(STORABLE))), grouping, shape)


def encoded(weight: Coded, seed: int = 0) -> Encoded:
    w_OI = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    return weight.format.encode(weight.grouping.split(w_OI))


def beside(weight: Coded, codes: Encoded) -> dict[str, Tensor]:
    groups = weight.groups
    return {f"weight_{part.name}": codes.parts[part.name].reshape(part.shape(groups)) for part in weight.format.parts}


def assert_as_told(weight: StoredWeight, tensors: dict[str, Tensor]) -> None:
    """Shapes, dtypes and bytes are those of the parts; JSON gives an equal weight; so do copies."""
    parts = {part.name: part for part in weight.parts()}
    assert parts.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert tuple(tensor.shape) == parts[name].shape
        assert tensor.dtype == (parts[name].dtype or torch.float32)
    assert weight.packed_bytes(4) == sum(tensor.nbytes for tensor in tensors.values())
    for twin in (weight_from_json(weight_to_json(weight)), copy.deepcopy(weight), pickle.loads(pickle.dumps(weight))):
        assert twin == weight
        assert hash(twin) == hash(weight)


@settings(max_examples=80, deadline=None)
@given(coded_weights())
def test_codes_are_decoded_as_their_format_does(weight: Coded) -> None:
    codes = encoded(weight)
    tensors = weight.pack(codes.codes.reshape(weight.shape), beside(weight, codes))
    assert_as_told(weight, tensors)
    assert torch.equal(weight.decode(tensors), codes.decode().reshape(weight.shape))


@settings(max_examples=80, deadline=None)
@given(coded_weights(), st.floats(0, 1), st.integers(0, 2**16))
def test_pruned_codes_are_zeros_however_they_are_stored(weight: Coded, density: float, seed: int) -> None:
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed)) < density
    codes = encoded(weight, seed)
    zero_format = weight.format.zero_format
    around = weight if zero_format is None else Coded(get_format(zero_format), weight.grouping, weight.shape)
    chosen = pruned_weight(around, weight, int(mask.sum()), None, 4)
    for stored in {chosen, Sparse(around, Places(int(mask.sum()), None), weight)}:
        kept = codes.codes.reshape(weight.shape).masked_fill(~mask, 0)
        tensors = stored.pack(kept, beside(weight, codes), mask)
        assert_as_told(stored, tensors)
        expected = codes.decode().reshape(weight.shape).masked_fill(~mask, 0)
        assert torch.equal(stored.decode(tensors), expected)
        assert stored.packed_bytes(4) >= chosen.packed_bytes(4)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.floats(0, 1))
def test_floats_come_back(shape: tuple[int, ...], density: float) -> None:
    w_OI = torch.randn(shape)
    assert_as_told(Dense(shape), {"weight": w_OI})
    assert torch.equal(Dense(shape).decode({"weight": w_OI}), w_OI)
    mask = torch.rand(shape) < density
    sparse = Sparse(Dense(shape), Places(int(mask.sum()), None), Dense(shape))
    tensors = sparse.pack(w_OI, {}, mask)
    assert_as_told(sparse, tensors)
    assert torch.equal(sparse.decode(tensors), w_OI.masked_fill(~mask, 0))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.sampled_from(STORABLE))
def test_factors_contract(outputs: int, inputs: int, rank: int, name: str) -> None:
    left, right = Coded(get_format(name), Grouping("row"), (outputs, rank)), Dense((rank, inputs))
    weight = Factored((left, right), "or,ri->oi", (outputs, inputs))
    codes, right_RI = encoded(left), torch.randn(rank, inputs)
    numbered = {f"weight_0{key[6:]}": value for key, value in left.pack(codes.codes, beside(left, codes)).items()}
    tensors = {**numbered, "weight_1": right_RI}
    assert_as_told(weight, tensors)
    assert torch.allclose(weight.decode(tensors), codes.decode() @ right_RI, atol=1e-5)
    assert weight.version == 4


def test_a_tensor_train_is_a_factored_weight() -> None:
    cores = torch.randn(3, 2, 5), torch.randn(5, 4, 6)  # (o, i, r), (r, p, j)
    shapes = tuple(Dense(tuple(core.shape)) for core in cores)
    weight = Factored(shapes, "oir,rpj->opij", (12, 12))
    w_OI = weight.decode({"weight_0": cores[0], "weight_1": cores[1]})
    slow = torch.zeros(12, 12)
    for o in range(3):
        for p in range(4):
            for i in range(2):
                for j in range(6):
                    slow[4 * o + p, 6 * i + j] = (cores[0][o, i] * cores[1][:, p, j]).sum()
    assert torch.allclose(w_OI, slow, atol=1e-5)


@pytest.mark.parametrize(
    "equation", ["or,ri", "or,ri->or", "o,ri->oi", "oi,ri->oi", "or,ri->ooi", "or->oi", "or,ri->ox"]
)
def test_factors_that_do_not_contract_to_the_shape(equation: str) -> None:
    with pytest.raises(ValueError, match="makes no weight of shape"):
        Factored((Dense((4, 2)), Dense((2, 3))), equation, (4, 3))


def test_banks_are_views_into_parts_that_are_owned_together() -> None:
    bank = Coded(get_format("int4"), Grouping(), (3, 4, 5))
    codes = encoded(bank)
    tensors = bank.pack(codes.codes.reshape(bank.shape), beside(bank, codes))
    for index in range(3):
        weight = Shared("bank", bank, index)
        assert_as_told(weight, tensors)
        assert weight.shape == (4, 5)
        assert torch.equal(weight.decode(tensors), bank.decode(tensors)[index])
        assert {part.bank for part in weight.parts()} == {"bank.weight", "bank.weight_scale"}
    with pytest.raises(ValueError, match="entry 3 of a bank"):
        Shared("bank", bank, 3)
    nested = Factored((Dense((4, 2)), Shared("right", Dense((2, 5)))), "or,ri->oi", (4, 5))
    assert [(part.name, part.bank) for part in nested.parts()] == [("weight_0", None), ("weight_1", "right.weight")]


CODED: dict[str, Any] = {"format": "int4", "grouping": "row", "groups": 1, "shape": [4, 6]}


@pytest.mark.parametrize(
    "content",
    [
        {**CODED, "format": "int9"}, {**CODED, "format": "nf4"}, {**CODED, "grouping": "column"},
        {**CODED, "groups": 0}, {**CODED, "shape": [4, 0]}, {**CODED, "shape": [4, 1.0]}, {**CODED, "masked": 1},
        {**CODED, "masked": True}, {**CODED, "format": None, "masked": True},
        {**CODED, "grouping": "group", "groups": 5},
        {**CODED, "sparse": {"kept": 25, "pattern": None, "format": "int4"}},
        {**CODED, "sparse": {"kept": 5, "pattern": None, "format": "int8"}},
        {**CODED, "sparse": {"kept": 5, "pattern": None, "format": None}},
        {**CODED, "sparse": {"kept": 12, "pattern": "2:5", "format": "int4"}},
        {**CODED, "sparse": {"kept": 12, "pattern": "4:2", "format": "int4"}},
        {**CODED, "format": "int4_asymmetric", "sparse": {"kept": 5, "pattern": None, "format": "int4_asymmetric"}},
        {"stored": "nothing", **CODED}, {"stored": "factored", "equation": "a->a", "factors": [], "shape": [2, 2]},
        {"stored": "shared", "bank": "b", "index": 4, "around": CODED},
        {"stored": "shared", "bank": "b", "index": True, "around": CODED},
    ],
    ids=str,
)  # fmt: skip
def test_nonsense_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises((FormatError, ValueError, KeyError, TypeError)):
        weight_from_json(content)


def test_versions_say_who_can_read_it() -> None:
    coded = Coded(get_format("int4_asymmetric"), Grouping(), (4, 4))
    versions = [w.version for w in (Dense((4, 4)), coded, Masked(coded), Sparse(coded, Places(3, None), coded))]
    assert versions == [1, 1, 2, 3]
