"""The native kernel against the slow reference: every path of the processor, format and odd shape, to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xtc_ds.formats import ActivationFormat, get_format
from xtc_ds.kernels.native import TiledLayer, TiledWeight, native_library, quantize_input, tile_weight, tiled_product
from xtc_ds.kernels.native.build import CompilerError, build_library, find_compiler

FORMATS = ("binary", "ternary", "int2", "int3", "int4", "int5", "int8")
LIBRARY = native_library()
if LIBRARY is None:
    pytest.skip("no C compiler here", allow_module_level=True)
PATHS = range(LIBRARY.path + 1)


def random_codes(name: str, outputs: int, inputs: int, generator: torch.Generator) -> Tensor:
    low, high = get_format(name).code_range
    codes = torch.randint(low, high + 1, (outputs, inputs), generator=generator).to(torch.int8)
    return codes.where(codes != 0, torch.ones_like(codes)) if name == "binary" else codes


def tiled_linear(
    x: Tensor,
    weight: TiledWeight,
    scale: Tensor,
    bias: Tensor | None,
    bits: int,
    x_scale: float | None = None,
    path: int | None = None,
) -> Tensor:
    scale = scale.expand(weight.sums.numel()).contiguous()
    return tiled_product(quantize_input(x, bits, x_scale, path), weight, scale, bias, x.dtype, path)


def reference(x: Tensor, codes: Tensor, scale: Tensor, bias: Tensor | None, bits: int, range_: Tensor | None) -> Tensor:
    encoded = ActivationFormat(bits, True, "dynamic" if range_ is None else "static").encode(x, range_)
    exact = (encoded.codes.double() @ codes.double().t()).float()
    y = exact * encoded.scale * scale.reshape(1, -1)
    return (y if bias is None else y + bias).to(x.dtype)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", FORMATS)
def test_every_path_gives_the_bits_of_the_reference(name: str, path: int) -> None:
    generator = torch.Generator().manual_seed(7)
    for outputs, inputs in ((1, 1), (16, 4), (17, 33), (63, 100), (130, 257), (64, 768)):
        codes = random_codes(name, outputs, inputs, generator)
        weight = tile_weight(codes, get_format(name))
        for tokens in (0, 1, 2, 3, 5, 8, 12, 15, 16, 17, 40):
            x = torch.randn(tokens, inputs, generator=generator)
            x[1:2] = 0
            scale = torch.rand(outputs if tokens % 2 else 1, generator=generator)
            bias = torch.randn(outputs, generator=generator) if tokens % 3 else None
            found = tiled_linear(x, weight, scale, bias, 8, path=path)
            assert torch.equal(found, reference(x, codes, scale, bias, 8, None)), (outputs, inputs, tokens)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(FORMATS),
    st.integers(1, 70),
    st.integers(1, 140),
    st.integers(0, 20),
    st.integers(2, 8),
    st.sampled_from(PATHS),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_any_shape_any_bits(
    name: str, outputs: int, inputs: int, tokens: int, x_bits: int, path: int, static: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = random_codes(name, outputs, inputs, generator)
    x = torch.randn(tokens, inputs, generator=generator) * 10 ** float(torch.randint(-6, 6, (), generator=generator))
    range_ = torch.tensor([-1.5, 0.75]) if static else None
    x_scale = 2 * 1.5 / 2**x_bits if static else None
    scale = torch.rand(outputs, generator=generator)
    found = tiled_linear(x, tile_weight(codes, get_format(name)), scale, None, x_bits, x_scale, path)
    assert torch.equal(found, reference(x, codes, scale, None, x_bits, range_))


@pytest.mark.parametrize("path", PATHS)
def test_bfloat16_in_and_out(path: int) -> None:
    generator = torch.Generator().manual_seed(3)
    codes = random_codes("ternary", 40, 77, generator)
    x = torch.randn(20, 77, generator=generator).bfloat16()
    scale, bias = torch.rand(40, generator=generator), torch.randn(40, generator=generator)
    found = tiled_linear(x, tile_weight(codes, get_format("ternary")), scale, bias, 8, path=path)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, reference(x, codes, scale, bias, 8, None))
    assert torch.equal(quantize_input(x, 8, path=path).codes(), ActivationFormat(8, True, "dynamic").encode(x).codes)


@pytest.mark.parametrize("path", PATHS)
def test_rounds_halves_to_even_and_clips_the_largest_as_the_format_does(path: int) -> None:
    codes = torch.eye(8, dtype=torch.int8)
    x = torch.tensor([[1.0, -1.0, 0.5 / 128, 1.5 / 128, 2.5 / 128, -0.5 / 128, -1.5 / 128, 0.0]])
    found = tiled_linear(x, tile_weight(codes, get_format("int8")), torch.ones(1), None, 8, path=path)
    assert (found * 128).tolist() == [[127.0, -128.0, 0.0, 2.0, 2.0, 0.0, -2.0, 0.0]]


@pytest.mark.parametrize("path", PATHS)
def test_a_nan_in_a_token_reaches_its_whole_output_and_no_other(path: int) -> None:
    x = torch.ones(3, 20)
    x[1, 19] = float("nan")
    codes = torch.ones(5, 20, dtype=torch.int8)
    found = tiled_linear(x, tile_weight(codes, get_format("binary")), torch.ones(1), None, 8, path=path)
    assert found[1].isnan().all()
    assert found[[0, 2]].isfinite().all()


def test_input_need_not_be_contiguous_and_threads_change_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = random_codes("binary", 96, 300, generator)
    weight = tile_weight(codes, get_format("binary"))
    x = torch.randn(300, 50, generator=generator).t()
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(tiled_linear(x, weight, torch.ones(96), None, 8))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)
    assert torch.equal(results[0], reference(x, codes, torch.ones(96), None, 8, None))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bound_layer_gives_what_the_parts_give(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = tile_weight(random_codes("int4", 37, 65, generator), get_format("int4"))
    scale, bias = torch.rand(37), torch.randn(37)
    for x_scale in (None, 0.01):
        layer = TiledLayer(weight, scale, bias, 8, x_scale)
        for tokens in (40, 1, 0, 17):
            x = torch.randn(65, tokens).to(dtype).t()
            assert torch.equal(layer(x), tiled_linear(x, weight, scale, bias, 8, x_scale))


def test_tiles_take_the_bits_of_the_format() -> None:
    generator = torch.Generator().manual_seed(0)
    for name, bits in (("binary", 1), ("ternary", 2), ("int2", 4), ("int4", 4), ("int5", 8), ("int8", 8)):
        weight = tile_weight(random_codes(name, 64, 256, generator), get_format(name))
        assert weight.tiles.numel() == 64 * 256 * bits // 8


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(CompilerError, match="CC names 'no-such-compiler'"):
        find_compiler()
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CompilerError, match="no C compiler"):
        build_library()


def test_a_failing_compiler_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "false")
    monkeypatch.setenv("XTC_DS_CACHE", str(tmp_path))
    with pytest.raises(CompilerError, match="false failed"):
        build_library()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bits", [2, 8])
def test_codes_at_and_beside_halves(bits: int) -> None:
    generator = torch.Generator().manual_seed(5)
    high = 2 ** (bits - 1)
    for scale in (1.0, 0.1, 1 / 3, 1e-38, 3e-31, 2e30, 7e35):
        halves = (torch.arange(-2 * high, 2 * high).float() + 0.5) * scale
        up, down = (torch.nextafter(halves, torch.tensor(side)) for side in (float("inf"), float("-inf")))
        noise = (torch.rand(4096, generator=generator) - 0.5) * 3 * high * scale
        odd = torch.tensor([0.0, -0.0, float("inf"), float("-inf"), 1e-45, 3e38])
        x = torch.cat([halves, up, down, noise, odd]).unsqueeze(0)
        for fixed in (scale, None):
            row = x if fixed is not None else x[:, : -len(odd)]
            found = [quantize_input(row, bits, fixed, path) for path in PATHS]
            assert all(torch.equal(one.u8, found[0].u8) for one in found), scale
            assert all(torch.equal(one.sums, found[0].sums) for one in found), scale
            expected = (row / found[0].scale).round().clamp(-high, high - 1)
            assert torch.equal(found[0].codes().float(), expected), scale
