"""Packed layers around every kind of stored weight compute what the decoded weight gives, and can be saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import xtc_ds
from xtc_ds.checkpoint.inspection import inspect_folder
from xtc_ds.checkpoint.quantization_config import XtcQuantizationConfig, describe_packed
from xtc_ds.checkpoint.shell import mark_frozen, tie_packed_layers
from xtc_ds.formats import ActivationFormat, Grouping, get_format
from xtc_ds.runtime import PackedLayer, PackedSpec, set_runtime
from xtc_ds.runtime.packed_layers import build_packed
from xtc_ds.storage import Coded, Dense, Factored, Masked, Places, Shared, Sparse, StoredWeight

SHAPE = (6, 8)


def weights(shape: tuple[int, ...] = SHAPE) -> dict[str, StoredWeight]:
    rows, size = Grouping("row"), (shape[0], *shape[1:])
    codes, centroids = (Coded(get_format(name), rows, size) for name in ("int4", "kmeans3"))
    shifted = Coded(get_format("int4_asymmetric"), rows, size)
    result: dict[str, StoredWeight] = {
        "dense": Dense(size), "coded": codes, "kmeans": centroids, "masked": Masked(shifted),
        "shared": Shared("bank", Coded(get_format("int8"), Grouping(), (3, *size)), 1),
    }  # fmt: skip
    if len(shape) == 2:
        result["factored"] = Factored(
            (Dense((shape[0], 3)), Coded(get_format("int8"), rows, (3, shape[1]))), "or,ri->oi", size
        )
    return result


def filled(layer: PackedLayer) -> PackedLayer:
    """Any codes, masks and floats in every part."""
    for part in layer.spec.weight.parts():
        tensor = layer.tensors()[part.name]
        if part.codes is not None:
            weight_format, count = part.codes
            low, high = weight_format.code_range
            tensor.data.copy_(weight_format.pack(torch.randint(low, high + 1, (count,)).to(torch.int8)))
        elif part.dtype == torch.uint8:
            tensor.data.copy_(torch.randint(0, 256, part.shape).to(torch.uint8))
        else:
            tensor.data.copy_(torch.randn(part.shape))
    if getattr(layer, "bias", None) is not None:
        layer.bias.data.copy_(torch.randn(layer.bias.shape))  # type: ignore[union-attr, operator, arg-type]
    return layer


@pytest.mark.parametrize("runtime", ["packed", "unpacked"])
@pytest.mark.parametrize("name", list(weights()))
@pytest.mark.parametrize("kind", ["linear", "embedding", "conv2d"])
def test_layers_compute_with_what_is_decoded(kind: str, name: str, runtime: str) -> None:
    shape = (4, 3, 2, 2) if kind == "conv2d" else SHAPE
    if name not in weights(shape) or (kind, name) == ("embedding", "dense"):
        pytest.skip("not stored so")
    like: nn.Module = {"linear": nn.Linear(8, 6), "embedding": nn.Embedding(6, 8), "conv2d": nn.Conv2d(3, 4, 2)}[kind]
    layer = filled(build_packed(PackedSpec(kind, weights(shape)[name]), like))
    set_runtime(layer, runtime)
    w_OI, bias = layer.dense_weight(), getattr(layer, "bias", None)
    assert w_OI.shape == shape
    if kind == "embedding":
        ids = torch.tensor([[0, 5], [3, 3]])
        assert torch.allclose(layer(ids), F.embedding(ids, w_OI), atol=1e-6)
        return
    x = torch.randn(5, 8) if kind == "linear" else torch.randn(2, 3, 5, 5)
    expected = F.linear(x, w_OI, bias) if kind == "linear" else F.conv2d(x, w_OI, bias)  # type: ignore[arg-type]
    assert torch.allclose(layer(x), expected, atol=1e-5)


class Network(nn.Module):
    """Two layers with one bank, and one of low rank."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.first, self.second = nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.low(x) + self.first(x) * self.second(x)
        return result


def test_factors_and_banks_are_written_once_and_read_back(tmp_path: Path) -> None:
    model, bank = Network(), Coded(get_format("int8"), Grouping(), (2, *SHAPE))
    specs = {
        "low": PackedSpec("linear", weights()["factored"], ActivationFormat(8)),
        "first": PackedSpec("linear", Shared("bank", bank, 0)),
        "second": PackedSpec("linear", Shared("bank", bank, 1)),
    }
    for name, spec in specs.items():
        setattr(model, name, filled(build_packed(spec, model.get_submodule(name))))
    described = describe_packed(model, "float32")
    assert described.format_version == 4
    tie_packed_layers(model, described)
    mark_frozen(model, XtcQuantizationConfig(float_dtype="float32"))
    model.eval()
    report = xtc_ds.export_packed(model, tmp_path / "out")
    stored = specs["low"].weight.packed_bytes(4) + bank.packed_bytes(4)
    assert report.tensor_bytes == stored + 3 * 6 * 4
    loaded = xtc_ds.load_into(Network(), tmp_path / "out")
    x = torch.randn(4, 8)
    assert torch.equal(loaded(x), model(x))
    assert loaded.first.weight is loaded.second.weight  # type: ignore[union-attr]
    inspection = inspect_folder(tmp_path / "out")
    assert inspection.dense_bytes == 4 * sum(parameter.numel() for parameter in Network().parameters())
    entries = {entry.name: entry for entry in inspection.tensors}
    assert (entries["first.weight"].weights, entries["first.weight"].bits_per_weight) == (96, 8)
    factors = entries["low.weight_0"], entries["low.weight_1"]
    assert [factor.weights for factor in factors] == [48, 0]
    assert factors[0].bits_per_weight == 8 * sum(factor.bytes for factor in factors) / 48
    assert torch.equal(loaded(x), loaded.double().float()(x))  # parts of a format stay exact


def test_sparse_codebooks_decode() -> None:
    mask = torch.rand(SHAPE) < 0.3
    around = Coded(get_format("kmeans2"), Grouping("row"), SHAPE)
    spec = PackedSpec("linear", Sparse(around, Places(int(mask.sum()), None), around), ActivationFormat(8))
    layer = build_packed(spec, nn.Linear(8, 6))
    codebook, codes = torch.randn(6, 4), torch.randint(-2, 2, SHAPE).to(torch.int8)
    for name, value in spec.weight.pack(codes, {"weight_codebook": codebook}, mask).items():  # type: ignore[attr-defined]
        layer.tensors()[name].data.copy_(value)
    expected = codebook.gather(1, codes.long() + 2).masked_fill(~mask, 0)
    assert torch.equal(layer.dense_weight(), expected)
    assert torch.equal(layer.mask(), mask)  # type: ignore[arg-type]
