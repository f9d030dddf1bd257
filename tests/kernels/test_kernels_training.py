"""Integer forward in training: what fake quantization gives, up to float rounding, forward and backward."""

from __future__ import annotations

import gc

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import xtc_ds.kernels.input_codes as input_codes
from tests.kernels.backends import native_and_torch
from xtc_ds.formats import ActivationFormat, Grouping, fake_quantize_activation, fake_quantize_weight, get_format
from xtc_ds.kernels.native import tile_weight
from xtc_ds.kernels.training import WeightCodes, integer_linear

FORMATS = ("binary", "ternary", "int2", "int4", "int8")


backend = native_and_torch(input_codes)


def encoder(name: str, grouping: Grouping, tiled: bool) -> object:
    def encode(w: Tensor) -> WeightCodes:
        weight_format = get_format(name)
        encoded = weight_format.encode(grouping.split(w.detach()))
        codes = encoded.codes.reshape(w.shape)
        scale = encoded.scale.flatten().expand(len(w)).contiguous()
        return WeightCodes(codes, scale, tile_weight(codes, weight_format) if tiled else None)

    return encode


def run(x: Tensor, w: Tensor, bias: Tensor | None, forward: object) -> list[Tensor]:
    leaves = [t.clone().requires_grad_() for t in (x, w, bias) if t is not None]
    y = forward(*leaves)  # type: ignore[operator]
    weights = torch.arange(y.numel(), device=y.device).reshape(y.shape).cos().to(y.dtype)
    (y * weights).sum().backward()
    return [y.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("grouping", [Grouping("tensor"), Grouping("row")], ids=lambda g: g.kind)
@pytest.mark.parametrize("name", FORMATS)
def test_equals_fake_quantization(
    name: str, grouping: Grouping, static: bool, dtype: torch.dtype, backend: str
) -> None:
    torch.manual_seed(1)
    x, w, bias = torch.randn(3, 5, 40).to(dtype), torch.randn(24, 40).to(dtype), torch.randn(24).to(dtype)
    activation = ActivationFormat(8, True, "static" if static else "dynamic")
    range_ = torch.tensor([-2.0, 2.5]) if static else None
    encode = encoder(name, grouping, backend == "native")

    def slow(x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
        w_hat = fake_quantize_weight(w, get_format(name), grouping)
        return F.linear(fake_quantize_activation(x, activation, range_), w_hat, bias)

    fast = run(x, w, bias, lambda x, w, b: integer_linear(x, w, b, encode, activation, range_))  # type: ignore[arg-type]
    expected = run(x.float(), w.float(), bias.float(), slow)
    exact = run(x, w, bias, slow)
    for found, wanted, same_dtype in zip(fast, expected, exact, strict=True):
        assert found.dtype == dtype
        assert found.shape == wanted.shape
        size = float(wanted.abs().max())
        error = float((found.float() - wanted).abs().max()) / size
        # In bfloat16 both round several times, at different places.
        slow_error = float((same_dtype.float() - wanted).abs().max()) / size
        assert error <= max(2e-6, 1.6 * slow_error)


def test_gradients_that_nobody_asked_for_are_not_computed(backend: str) -> None:
    encode = encoder("binary", Grouping("row"), backend == "native")
    x, w = torch.randn(4, 8), torch.randn(6, 8, requires_grad=True)
    y = integer_linear(x, w, None, encode, ActivationFormat())  # type: ignore[arg-type]
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert w.grad is not None
    assert x.grad is None


def test_query_key_and_value_quantize_their_input_once(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    quantize = input_codes._quantize

    def counted(x: Tensor, activation_format: ActivationFormat, range_: Tensor | None) -> input_codes.QuantizedInput:
        calls.append(1)
        return quantize(x, activation_format, range_)

    monkeypatch.setattr(input_codes, "_quantize", counted)
    encode = encoder("binary", Grouping("row"), backend == "native")
    x, w = torch.randn(4, 8), torch.randn(6, 8)

    def layer(x: Tensor) -> Tensor:
        return integer_linear(x, w, None, encode, ActivationFormat())  # type: ignore[arg-type]

    first = layer(x)
    assert torch.equal(layer(x), first)
    assert len(calls) == 1
    x.add_(1)
    assert not torch.equal(layer(x), first)
    assert len(calls) == 2
    layer(x.clone())
    assert len(calls) == 3
    with torch.inference_mode():
        y = torch.randn(4, 8)
        before = layer(y)
        y.add_(1)
        assert not torch.equal(layer(y), before)


def test_codes_of_an_input_die_with_it(backend: str) -> None:
    x = torch.randn(4, 8)
    input_codes.quantized_once(x, ActivationFormat(), None)
    assert input_codes._local.last is not None
    del x
    gc.collect()
    assert input_codes._local.last is None


def test_what_is_kept_for_the_backward_is_int8(backend: str) -> None:
    encode = encoder("binary", Grouping("row"), backend == "native")
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    x, w = torch.randn(64, 128, requires_grad=True), torch.randn(96, 128, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        integer_linear(x, w, None, encode, ActivationFormat())  # type: ignore[arg-type]
    assert {t.dtype for t in saved if t.numel() > 96} == {torch.int8}


def test_autocast_decides_the_dtype(backend: str) -> None:
    encode = encoder("binary", Grouping("row"), backend == "native")
    x, w = torch.randn(4, 8), torch.randn(6, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = integer_linear(x, w, None, encode, ActivationFormat())  # type: ignore[arg-type]
    assert y.dtype == torch.bfloat16
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert w.grad is not None
    assert w.grad.dtype == torch.float32
