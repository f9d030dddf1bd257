"""k-means codebooks: Lloyd's iterations against a slow twin, the gradient of a centroid, and exact packing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xtc_ds.errors import FormatError
from xtc_ds.formats import Grouping, fake_quantize_weight, get_format
from xtc_ds.formats.kmeans import KMeansFormat, lloyd

WEIGHTS = st.lists(st.integers(-50, 50).map(lambda v: v / 8), min_size=1, max_size=40)


def slow_lloyd(weights: list[float], size: int) -> list[float]:
    """Every weight to its nearest centroid (the lower of two), every centroid to the mean of its weights."""
    low, high = min(weights), max(weights)
    centroids = [low + (high - low) * k / (size - 1) for k in range(size)]
    while True:
        members: list[list[float]] = [[] for _ in centroids]
        for w in weights:
            members[min(range(size), key=lambda k: (abs(w - centroids[k]), centroids[k]))].append(w)
        moved = [sum(ws) / len(ws) if ws else c for ws, c in zip(members, centroids, strict=True)]
        if all(abs(a - b) < 1e-12 for a, b in zip(moved, centroids, strict=True)):
            return moved
        centroids = moved


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.sampled_from([2, 4, 8]))
def test_lloyd_is_its_slow_twin(seed: int, count: int, size: int) -> None:
    w_GN = torch.randn(1, count, generator=torch.Generator().manual_seed(seed))
    assert lloyd(w_GN, size)[0].tolist() == pytest.approx(slow_lloyd(w_GN[0].tolist(), size), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, st.sampled_from([2, 4, 8]))
def test_every_centroid_is_the_mean_of_its_weights(weights: list[float], size: int) -> None:
    w_GN = torch.tensor([weights])
    centroids_GK = lloyd(w_GN, size)
    assert torch.equal(centroids_GK, lloyd(w_GN, size))
    assert bool((centroids_GK.diff(dim=1) >= 0).all())
    index_GN = get_format({2: "kmeans1", 4: "kmeans2", 8: "kmeans3"}[size]).encode(w_GN).codes.long() + size // 2
    for k in index_GN.unique().tolist():
        assert float(centroids_GK[0, k]) == pytest.approx(float(w_GN[index_GN == k].mean()), abs=1e-5)


@pytest.mark.parametrize("bits", range(1, 9))
def test_groups_have_codebooks_of_their_own_and_codes_name_the_nearest(bits: int) -> None:
    w_GN = torch.randn(3, 200) * torch.tensor([[1.0], [10.0], [0.1]])
    weight_format = get_format(f"kmeans{bits}")
    encoded = weight_format.encode(w_GN)
    codebook = encoded.parts["codebook"]
    assert codebook.shape == (3, 2**bits)
    weight_format.check_codes(encoded.codes)
    distance = (w_GN.unsqueeze(2) - codebook.unsqueeze(1)).abs()
    assert torch.allclose((w_GN - encoded.decode()).abs(), distance.amin(2))
    for row in range(3):
        assert torch.equal(weight_format.encode(w_GN[row : row + 1]).parts["codebook"], codebook[row : row + 1])
    packed = weight_format.pack(encoded.codes)
    assert packed.numel() == (600 * bits + 7) // 8
    assert torch.equal(weight_format.unpack(packed, 600).reshape(3, 200), encoded.codes)


def test_few_values_are_kept_exactly() -> None:
    w_GN = torch.tensor([[0.5, -1.0, 3.0, 0.5, 3.0]])
    assert torch.equal(get_format("kmeans2").encode(w_GN).decode(), w_GN)
    constant = torch.full((2, 7), 0.3)
    assert torch.equal(get_format("kmeans4").encode(constant).decode(), constant)


@pytest.mark.parametrize("grouping", [Grouping(), Grouping("row"), Grouping("group", 2)], ids=lambda g: g.kind)
def test_the_gradient_of_a_centroid_is_the_sum_of_its_weights(grouping: Grouping) -> None:
    w, weight_format = torch.randn(4, 6, requires_grad=True), get_format("kmeans2")
    start = weight_format.encode(grouping.split(w))
    codebook = start.parts["codebook"].clone().requires_grad_()
    incoming = torch.randn(4, 6)
    codes = start.codes.reshape(4, 6)
    fake_quantize_weight(w, weight_format, grouping, learned={"codebook": codebook}, codes=codes).backward(incoming)  # type: ignore[no-untyped-call]
    assert w.grad is not None and not w.grad.any()  # zeros, not nothing: see the format
    expected = torch.zeros_like(codebook)
    for g, (row, grads) in enumerate(zip(start.codes, grouping.split(incoming), strict=True)):
        for code, grad in zip(row.tolist(), grads.tolist(), strict=True):
            expected[g, code + 2] += grad
    assert codebook.grad is not None
    assert torch.allclose(codebook.grad, expected, atol=1e-6)


def test_assigned_anew_weights_move_to_the_nearest_centroid_and_learn() -> None:
    w = torch.tensor([[0.1, 0.9, 0.4]], requires_grad=True)
    codebook = torch.tensor([[1.0, 0.0]], requires_grad=True)  # centroids may change places
    result = fake_quantize_weight(w, KMeansFormat(1), Grouping(), learned={"codebook": codebook})
    assert result.tolist() == [[0.0, 1.0, 0.0]]
    result.backward(torch.tensor([[1.0, 2.0, 3.0]]))  # type: ignore[no-untyped-call]
    assert w.grad is not None and w.grad.tolist() == [[1.0, 2.0, 3.0]]
    assert codebook.grad is not None and codebook.grad.tolist() == [[2.0, 4.0]]


def test_a_share_of_the_weight_itself_gets_its_share_of_the_gradient() -> None:
    w = torch.randn(2, 8, requires_grad=True)
    codebook: Tensor = torch.tensor([[-1.0, 1.0]], requires_grad=True)
    codes = torch.randint(-1, 1, (2, 8)).to(torch.int8)
    result = fake_quantize_weight(w, KMeansFormat(1), Grouping(), None, 0.25, {"codebook": codebook}, codes)
    assert torch.allclose(result, 0.25 * w + 0.75 * (2.0 * codes + 1), atol=1e-6)
    result.sum().backward()  # type: ignore[no-untyped-call]
    assert w.grad is not None and torch.allclose(w.grad, torch.full_like(w, 0.25))


@pytest.mark.parametrize("bits", [0, 9])
def test_other_bits_are_refused(bits: int) -> None:
    with pytest.raises(FormatError, match="1 to 8 bits"):
        KMeansFormat(bits)
