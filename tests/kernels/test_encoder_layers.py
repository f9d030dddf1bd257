"""Whole layers of an encoder in one call against the same kernels one after the other: the same bits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from xtc_ds.formats import ActivationFormat, Grouping, get_format
from xtc_ds.kernels.attention import attend
from xtc_ds.kernels.backend import Inputs, ProductSpec
from xtc_ds.kernels.backends.encoder import EncoderSpec, NativeEncoder
from xtc_ds.kernels.encoder import add_norm_, encoder_kernel_works, gelu_
from xtc_ds.kernels.native import EncoderLayer, TiledLayer, run_layers, tile_weight

if not encoder_kernel_works(torch.zeros(1)):
    pytest.skip("needs a processor with AVX-512 VNNI and a C compiler", allow_module_level=True)


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def refused(linears: tuple[TiledLayer, ...], heads: int) -> str | None:
    shapes = [(linear.outputs, linear.weight.inputs) for linear in linears]
    products = [ProductSpec(get_format("int8"), Grouping("row"), shape, ActivationFormat()) for shape in shapes]
    return NativeEncoder().refuses(EncoderSpec(tuple(products), heads), Inputs(torch.device("cpu")))


class Layer:
    """Random weights; width, heads times features, and inner need not be alike."""

    def __init__(
        self,
        width: int,
        heads: int,
        features: int,
        inner: int,
        name: str,
        bias: bool = True,
        x_scale: float | None = None,
    ) -> None:
        self.heads, self.features = heads, features

        def linear(outputs: int, inputs: int) -> TiledLayer:
            low, high = get_format(name).code_range
            codes = torch.randint(low, high + 1, (outputs, inputs)).to(torch.int8)
            codes = codes.where(codes != 0, torch.ones_like(codes)) if name == "binary" else codes
            scale = (0.5 + torch.rand(outputs)) / (high * inputs**0.5)
            return TiledLayer(
                tile_weight(codes, get_format(name)), scale, torch.randn(outputs) if bias else None, 8, x_scale
            )

        attended = heads * features
        self.linears = (
            *(linear(attended, width) for _ in range(3)), linear(width, attended), linear(inner, width),
            linear(width, inner),
        )  # fmt: skip
        self.norms = tuple(torch.randn(width) for _ in range(4))
        self.native = EncoderLayer(self.linears, self.norms, heads, features**-0.5, (1e-12, 1e-5))
        assert EncoderLayer.shares_input(self.linears)
        assert refused(self.linears, heads) is None

    def __call__(self, x: Tensor, mask: Tensor | None) -> Tensor:
        B, T, D = x.shape
        query, key, value, attended, up, down = self.linears
        q, k, v = (f(x.view(-1, D)).view(B, T, self.heads, -1).transpose(1, 2) for f in (query, key, value))
        context = attend(q, k, v, mask, self.features**-0.5).view(B * T, -1)
        h = add_norm_(attended(context).view(x.shape), x, *self.norms[:2], 1e-12)
        return add_norm_(down(gelu_(up(h.view(-1, D)))).view(x.shape), h, *self.norms[2:], 1e-5)


CASES = [
    ("binary", (1, 16), (64, 2, 32, 128), {}),
    ("ternary", (3, 7), (96, 2, 32, 100), {"bias": False}),
    ("int4", (2, 130), (128, 1, 96, 65), {"x_scale": 0.03}),
    ("int8", (9, 33), (50, 3, 64, 17), {}),
    ("binary", (1, 1), (64, 1, 64, 3073), {}),
]


@pytest.mark.parametrize(("name", "size", "shape", "options"), CASES)
def test_layers_give_the_bits_of_their_parts(
    name: str, size: tuple[int, int], shape: tuple[int, int, int, int], options: dict[str, float], threads: int
) -> None:
    torch.manual_seed(0)
    (B, T), layers = size, [Layer(*shape, name, **options) for _ in range(3)]  # type: ignore[arg-type]
    x = torch.randn(B, T, shape[0])
    pairs = torch.rand(B, 1, T, T) > 0.3
    pairs[0, 0, 0] = False
    for mask in (None, torch.rand(B, 1, 1, T) > 0.3, pairs, pairs.transpose(2, 3), pairs[:1]):
        expected, before = x, x.clone()
        for layer in layers:
            expected = layer(expected, mask)
        assert torch.equal(run_layers([layer.native for layer in layers], x, mask), expected)
        assert torch.equal(run_layers([layers[0].native], x, mask), layers[0](x, mask))
        assert torch.equal(x, before)


def test_layers_of_different_sizes_follow_each_other(threads: int) -> None:
    torch.manual_seed(0)
    layers = [Layer(64, 2, 32, 300, "binary"), Layer(64, 1, 32, 20, "ternary"), Layer(64, 1, 128, 64, "int8")]
    x = expected = torch.randn(4, 40, 64)
    for layer in layers:
        expected = layer(expected, None)
    assert torch.equal(run_layers([layer.native for layer in layers], x, None), expected)


def test_a_large_batch_is_taken_in_parts() -> None:
    torch.manual_seed(0)
    layer = Layer(64, 2, 32, 64, "binary")
    x, mask = torch.randn(90, 100, 64), torch.rand(90, 1, 1, 100) > 0.3
    found = run_layers([layer.native], x, mask)
    for sample in (0, 39, 40, 80, 89):
        one = slice(sample, sample + 1)
        assert torch.equal(found[one], run_layers([layer.native], x[one], mask[one]))


def test_nan_stays_in_its_sample() -> None:
    torch.manual_seed(0)
    layer = Layer(64, 2, 32, 128, "binary")
    x = torch.randn(3, 20, 64)
    x[1, 4, 5] = float("nan")
    y = run_layers([layer.native], x, None)
    assert y[1].isnan().all()
    assert y[[0, 2]].isfinite().all()


def test_sizes_that_the_kernel_does_not_take() -> None:
    layer = Layer(64, 2, 32, 128, "binary")
    query, key, value, attended, up, down = layer.linears
    assert "heads of 16 features" in str(refused(layer.linears, 4))
    assert "other sizes" in str(refused((query, key, attended, attended, down, up), 2))
    other = TiledLayer(key.weight, key.scale, key.bias, 8, x_scale=0.1)
    assert not EncoderLayer.shares_input((query, other, value, attended, up, down))
