"""The Triton kernels against the slow reference: every kernel, format and odd shape, to the last bit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.kernels.triton_cases import DEVICE, FORMATS, randn, random_codes, reference
from xtc_ds.formats import ActivationFormat, get_format
from xtc_ds.kernels.triton.decode import decode_product
from xtc_ds.kernels.triton.layout import STORED, triton_weight
from xtc_ds.kernels.triton.linear import InputCodes, code_product, linear, quantize_input, weight_only_linear
from xtc_ds.kernels.triton.matrix import matrix_product, unpacked_codes, unpacked_values
from xtc_ds.kernels.triton.tile_product import float_tile_product, tile_product

SHAPES = ((1, 1), (35, 257))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", FORMATS)
def test_words_hold_the_codes_bit_by_bit(name: str) -> None:
    codes = random_codes(name, 5, 37)
    weight = triton_weight(codes, get_format(name))
    assert weight.bits == {"binary": 1, "ternary": 2, "int2": 2, "int3": 4, "int4": 4}.get(name, 8)
    assert weight.sums.tolist() == [sum((code - STORED[weight.bits][1]) // STORED[weight.bits][0] for code in row)
                                    for row in codes.tolist()]  # fmt: skip
    if weight.bits == 8:
        assert torch.equal(weight.words[:, :37], codes) and not weight.words[:, 37:].any()
        return
    mul, off = STORED[weight.bits]
    per, half = 16 // weight.bits, 3
    for output in range(5):
        for i in range(37):
            word = int(weight.words[i // per, output % half]) & 0xFFFFFFFF
            value = word >> (output // half * 16 + i % per * weight.bits) & (2**weight.bits - 1)
            assert mul * value + off == codes[output, i]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_kernel_gives_the_bits_of_the_reference(name: str, shape: tuple[int, int]) -> None:
    outputs, inputs = shape
    codes = random_codes(name, outputs, inputs)
    weight = triton_weight(codes, get_format(name))
    assert torch.equal(unpacked_codes(weight)[:, :inputs], codes)
    x = randn(4, inputs)
    x[1] = 0
    scale, bias = torch.rand(outputs).to(DEVICE), randn(outputs)
    expected = reference(x, codes, scale, bias)
    x_codes = quantize_input(x, 8)
    found = torch.empty_like(expected)
    matrix_product(x_codes, unpacked_codes(weight), scale, bias, found)
    assert torch.equal(found, expected)
    if weight.bits < 8:
        tile_product(x_codes, weight, scale, bias, found.zero_())
        assert torch.equal(found, expected)
        first = InputCodes(x_codes.codes[:2], x_codes.sums[:2], x_codes.scale[:2], inputs)
        few = torch.empty_like(expected[:2])
        decode_product(first, weight, scale, bias, few)
        assert torch.equal(few, expected[:2])


@pytest.mark.parametrize("name", ["binary", "int4", "int8"])
def test_any_number_of_tokens_with_and_without_bias(name: str) -> None:
    codes = random_codes(name, 17, 40)
    weight, scale = triton_weight(codes, get_format(name)), torch.rand(17).to(DEVICE)
    for tokens in (0, 1, 2, 3) if name != "binary" else (0, 1, 129):
        x, bias = randn(tokens, 40), randn(17) if tokens % 2 else None
        assert torch.equal(linear(x, weight, scale, bias), reference(x, codes, scale, bias)), tokens
    assert linear(randn(0, 40), weight, scale, None).shape == (0, 17)
    assert weight_only_linear(randn(0, 40, dtype=torch.float16), weight, scale, None).shape == (0, 17)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_and_out(dtype: torch.dtype) -> None:
    codes = random_codes("ternary", 40, 77)
    weight, scale = triton_weight(codes, get_format("ternary")), torch.rand(40).to(DEVICE)
    for tokens in (1, 4):
        x, bias = randn(tokens, 77, dtype=dtype), randn(40, dtype=dtype)
        found = linear(x, weight, scale, bias)
        assert found.dtype == dtype
        assert torch.equal(found, reference(x, codes, scale, bias))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("static", [False, True])
def test_input_codes_are_those_of_the_activation_format(dtype: torch.dtype, static: bool) -> None:
    x = (torch.randn(5, 300) * 10.0 ** torch.randint(-4, 4, (5, 1))).to(DEVICE, dtype)
    x[2] = 0
    for bits in (2, 4, 8) if dtype == torch.float32 else (8,):
        range_ = torch.tensor([-1.5, 0.75], device=DEVICE) if static else None
        expected = ActivationFormat(bits, True, "static" if static else "dynamic").encode(x, range_)
        found = quantize_input(x, bits, torch.tensor([3 / 2**bits], device=DEVICE) if static else None)
        assert torch.equal(found.codes[:, :300], expected.codes)
        assert not found.codes[:, 300:].any()
        assert torch.equal(found.scale, expected.scale.flatten().expand(5))
        assert torch.equal(found.sums, expected.codes.sum(1, dtype=torch.int32))


def test_rounds_halves_to_even_and_clips_the_largest_as_the_format_does() -> None:
    x = torch.tensor([[1.0, -1.0, 0.5 / 128, 1.5 / 128, 2.5 / 128, -0.5 / 128, -1.5 / 128, 0.0]], device=DEVICE)
    assert quantize_input(x, 8).codes[0, :8].tolist() == [127, -128, 0, 2, 2, 0, -2, 0]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize("tokens", [2, 3])
def test_nan_in_a_token_reaches_its_whole_output_and_no_other(wrong: float, tokens: int) -> None:
    x = torch.ones(tokens, 20, device=DEVICE)
    x[1, 19] = wrong
    weight = triton_weight(torch.ones(5, 20, dtype=torch.int8, device=DEVICE), get_format("binary"))
    found = linear(x, weight, torch.ones(5, device=DEVICE), None)
    assert found[1].isnan().all()
    assert found[[row for row in range(tokens) if row != 1]].isfinite().all()


@pytest.mark.parametrize("name", ["binary", "int2", "int4"])
def test_lanes_never_overflow(name: str) -> None:
    """All stored values and all codes at their largest, over more inputs than a lane can hold."""
    high = get_format(name).code_range[1]
    codes = torch.full((3, 4224), high, dtype=torch.int8, device=DEVICE)
    x = torch.ones(1, 4224, device=DEVICE)
    scale = torch.ones(3, device=DEVICE)
    found = linear(x, triton_weight(codes, get_format(name)), scale, None)
    assert torch.equal(found, reference(x, codes, scale, None))


def test_input_need_not_be_contiguous() -> None:
    codes = random_codes("binary", 9, 50)
    weight, scale = triton_weight(codes, get_format("binary")), torch.ones(9, device=DEVICE)
    for x in (randn(50, 4).t(), randn(8, 100)[::2, ::2], randn(1, 50).expand(3, 50)):
        assert torch.equal(linear(x, weight, scale, None), reference(x, codes, scale, None))
        half = x.half()
        weight_only = weight_only_linear(half, weight, scale, None)
        torch.testing.assert_close(weight_only, weight_only_linear(half.contiguous(), weight, scale, None))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weight_only_multiplies_the_weight_rounded_to_the_dtype_of_the_input(name: str, dtype: torch.dtype) -> None:
    codes = random_codes(name, 37, 130)
    weight = triton_weight(codes, get_format(name))
    scale, bias = torch.rand(37).to(DEVICE), randn(37, dtype=dtype)
    x = randn(3, 130, dtype=dtype)
    w_OI = (codes.float() * scale.unsqueeze(1)).to(dtype)
    exact = x.double() @ w_OI.double().t() + bias.double()
    assert torch.equal(unpacked_values(weight, scale, dtype), w_OI)
    # The interpreter cuts weights of 4 bits off where a GPU rounds them to bfloat16.
    loose = DEVICE == "cpu" and dtype == torch.bfloat16 and weight.bits == 4
    bound = (2**-7 if loose else 2**-20) * (x.double().abs() @ w_OI.double().abs().t())
    bound += torch.finfo(dtype).eps * exact.abs() + 1e-6
    results = [weight_only_linear(x, weight, scale, bias)]
    if weight.bits < 8:
        results.append(torch.empty(3, 37, dtype=torch.float32, device=DEVICE))
        float_tile_product(x, weight, scale.to(dtype).float() if weight.bits < 4 else scale, bias, results[1])
    for found in results:
        assert ((found.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("dtype", [torch.float16])
def test_many_tokens_of_weight_only_go_through_the_unpacked_weight(dtype: torch.dtype) -> None:
    codes = random_codes("int4", 10, 40)
    scale, x = torch.rand(10).to(DEVICE), randn(128, 40, dtype=dtype)
    expected = F.linear(x, (codes.float() * scale.unsqueeze(1)).to(dtype))
    torch.testing.assert_close(weight_only_linear(x, triton_weight(codes, get_format("int4")), scale, None), expected)


def test_code_product_writes_the_dtype_asked_for() -> None:
    codes = random_codes("binary", 4, 8)
    x, scale = randn(2, 8), torch.ones(4, device=DEVICE)
    found = code_product(quantize_input(x, 8), triton_weight(codes, get_format("binary")), scale, None, torch.bfloat16)
    assert torch.equal(found, reference(x, codes, scale, None).bfloat16())
