"""Packed layers on the Triton kernels: the numbers of the dispatch, tensors that change, graphs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.kernels.triton_cases import DEVICE, FORMATS, randn, random_codes, reference
from xtc_ds.errors import FormatError
from xtc_ds.formats import ActivationFormat, Encoded, Grouping, get_format
from xtc_ds.kernels import linear_on_codes
from xtc_ds.kernels.backend import Inputs, ProductSpec
from xtc_ds.kernels.backends.triton import TritonLinear
from xtc_ds.kernels.triton.packed import TritonProduct
from xtc_ds.kernels.triton.sharing import shared_codes
from xtc_ds.kernels.triton.words import words_of

PER_ROW, EIGHT_BITS = Grouping("row"), ActivationFormat()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def packed_layer(name: str, outputs: int, inputs: int) -> tuple[Tensor, Tensor, Tensor]:
    codes = random_codes(name, outputs, inputs)
    return codes, get_format(name).pack(codes), torch.rand(outputs).to(DEVICE)


def refused(
    name: str,
    shape: tuple[int, ...],
    activation: ActivationFormat | None = EIGHT_BITS,
    dtype: torch.dtype = torch.float32,
    grouping: Grouping = PER_ROW,
) -> str | None:
    spec = ProductSpec(get_format(name), grouping, shape, activation)
    return TritonLinear().refuses(spec, Inputs(torch.device(DEVICE), dtype))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("calibration", ["dynamic", "static"])
def test_the_packed_layer_is_the_dispatch(name: str, calibration: str) -> None:
    weight_format = get_format(name)
    activation = ActivationFormat(8, True, "static" if calibration == "static" else "dynamic")
    codes, packed, scale = packed_layer(name, 21, 35)
    range_ = torch.tensor([-2.0, 1.0], device=DEVICE) if calibration == "static" else None
    bias = randn(21)
    for whole_bytes in (False, True):
        product = TritonProduct(weight_format, (21, 35), activation, whole_bytes)
        for x in (randn(2, 2, 35), randn(35), randn(0, 35)) if name == "binary" else (randn(2, 35),):
            assert refused(name, (21, 35), activation, x.dtype) is None
            weight = Encoded(codes, {"scale": scale.unsqueeze(1)}, weight_format)
            expected = linear_on_codes(x, weight, activation, range_, bias)
            found = product.multiply(x, packed, scale, bias, range_)
            assert torch.equal(found, expected.reshape(*x.shape[:-1], 21))


def test_the_packed_layer_sees_changed_tensors_and_shares_its_words() -> None:
    _, packed, scale = packed_layer("binary", 8, 16)
    product, x = TritonProduct(get_format("binary"), (8, 16), ActivationFormat()), randn(1, 16)
    before = product.multiply(x, packed, scale, None, None)
    assert words_of(packed, get_format("binary"), (8, 16), False) is words_of(
        packed.detach(), get_format("binary"), (8, 16), False
    )
    packed.bitwise_xor_(255)
    assert torch.equal(product.multiply(x, packed, scale, None, None), -before)
    scale.mul_(2)
    assert torch.equal(product.multiply(x, packed, scale, None, None), -2 * before)
    x.mul_(4)
    assert torch.equal(product.multiply(x, packed, scale, None, None), -8 * before)
    with pytest.raises(FormatError, match="takes 16 features"):
        product.multiply(randn(1, 15), packed, scale, None, None)


def test_an_input_is_quantized_once_until_it_changes() -> None:
    x = randn(2, 16)
    first = shared_codes(x, 8)
    assert shared_codes(x, 8) is first
    assert shared_codes(x, 4) is not first
    x.add_(1)
    assert torch.equal(shared_codes(x, 8).codes[:, :16], ActivationFormat().encode(x).codes)
    with torch.inference_mode():
        y = randn(2, 16)
        again = shared_codes(y, 8)
        y.neg_()
        assert torch.equal(shared_codes(y, 8).scale, again.scale)
        assert not torch.equal(shared_codes(y, 8).codes, again.codes)


@pytest.mark.parametrize("activation", [ActivationFormat(), None])
def test_graphs_hold_the_kernels(activation: ActivationFormat | None) -> None:
    dtype = torch.float32 if activation else torch.float16

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            _, packed, scale = packed_layer("ternary", 12, 20)
            self.register_buffer("packed", packed)
            self.register_buffer("scale", scale)
            self.product = TritonProduct(get_format("ternary"), (12, 20), activation)

        def forward(self, x: Tensor) -> Tensor:
            assert refused("ternary", (12, 20), activation, dtype) is None
            return self.product.multiply(x, self.packed, self.scale, None, None) + 1

    layer, x = Layer(), randn(2, 3, 20, dtype=dtype)
    expected = layer(x)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=True)
    assert torch.equal(compiled(x), expected)
    exported = torch.export.export(layer, (x,))
    names = [str(node.target) for node in exported.graph.nodes]
    assert ("xtc_ds.triton_product.default" in names) == (activation is not None)
    assert torch.equal(exported.module()(x), expected)


def test_operators_are_sound() -> None:
    _, packed, scale = packed_layer("binary", 6, 10)
    ops, checks = torch.ops.xtc_ds, ("test_schema", "test_faketensor")
    x = randn(2, 10)
    torch.library.opcheck(ops.triton_quantize, (x, 8, None), test_utils=checks)
    quantized = ops.triton_quantize(x, 8, None)
    arguments = (*quantized, packed, scale, None, "binary", 6, 10, False, torch.float32)
    torch.library.opcheck(ops.triton_product, arguments, test_utils=checks)
    arguments = (x.half(), packed, scale, None, "binary", 6, 10, False)
    torch.library.opcheck(ops.triton_weight_only, arguments, test_utils=checks)


@pytest.mark.skipif(DEVICE == "cpu", reason="no GPU here")
def test_a_cuda_graph_replays_the_layer_and_nothing_waits() -> None:
    codes, packed, scale = packed_layer("binary", 256, 512)
    product = TritonProduct(get_format("binary"), (256, 512), ActivationFormat())
    for tokens in (1, 32, 200):
        x = randn(tokens, 512)
        product.multiply(x, packed, scale, None, None)  # compiles, and tries configurations
        torch.cuda.set_sync_debug_mode("error")
        try:
            product.multiply(x, packed, scale, None, None)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = product.multiply(x, packed, scale, None, None)
        x.copy_(randn(tokens, 512))
        graph.replay()
        assert torch.equal(y, reference(x, codes, scale, None))


def test_what_the_kernels_do_not_take() -> None:
    assert refused("binary", (4, 4)) is None
    assert "not codes times a scale" in str(refused("int4_asymmetric", (4, 4)))
    assert "more than one scale" in str(refused("binary", (4, 4), grouping=Grouping("group", 2)))
    for shape in ((4, 4, 3, 3), (4, 1 << 20)):
        assert "shape" in str(refused("binary", shape))
    assert "torch.float64" in str(refused("binary", (4, 4), dtype=torch.float64))
    assert "half precision" in str(refused("binary", (4, 4), None))
