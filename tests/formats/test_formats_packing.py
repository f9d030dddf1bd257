"""Packing: exact round trips, the byte layout against a slow twin, and refusal of bytes that are no codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from xtc_ds.errors import FormatError
from xtc_ds.formats import WeightFormat, format_names, get_format

SLOW_BUT_SURE = settings(deadline=None, max_examples=40)
STORABLE = [name for name in format_names() if get_format(name).bits <= 8]
TOO_WIDE = [name for name in format_names() if get_format(name).bits > 8]
DENSE = [name for name in STORABLE if name != "ternary"]
CHUNK = 1 << 20


def levels(weight_format: WeightFormat) -> list[int]:
    """All valid codes, smallest first."""
    low, high = weight_format.code_range
    return [-1, 1] if weight_format.name == "binary" else list(range(low, high + 1))


def some_codes(weight_format: WeightFormat, numel: int, seed: int = 0) -> Tensor:
    choice = np.random.default_rng(seed).integers(0, len(levels(weight_format)), numel)
    return torch.tensor(levels(weight_format), dtype=torch.int8)[torch.from_numpy(choice)]


def slow_pack(weight_format: WeightFormat, codes: list[int]) -> bytes:
    """The documented layout, one number at a time, in Python integers."""
    if weight_format.name == "ternary":
        fives = [codes[start : start + 5] for start in range(0, len(codes), 5)]
        return bytes(sum((code + 1) * 3**digit for digit, code in enumerate(five)) for five in fives)
    bits = int(weight_format.bits)
    stream = 0
    for index, code in enumerate(codes):
        stream |= levels(weight_format).index(code) << (index * bits)
    return stream.to_bytes(-(-len(codes) * bits // 8), "little")


def numpy_pack(weight_format: WeightFormat, codes: NDArray[np.int8]) -> bytes:
    """The same for many codes at once."""
    if weight_format.name == "ternary":
        digits = np.pad(codes.astype(np.int64) + 1, (0, -codes.size % 5)).reshape(-1, 5)
        return (digits @ 3 ** np.arange(5)).astype(np.uint8).tobytes()
    bits = int(weight_format.bits)
    values = (codes > 0).astype(np.uint8) if bits == 1 else (codes.astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    stream = np.unpackbits(values[:, None], axis=1, bitorder="little")[:, :bits]
    return np.packbits(stream.reshape(-1), bitorder="little").tobytes()


def test_storable_formats_are_the_ones_meant() -> None:
    integers = {f"int{bits}{kind}" for bits in range(2, 9) for kind in ("", "_asymmetric")}
    assert set(STORABLE) == {"binary", "ternary"} | integers | {f"kmeans{bits}" for bits in range(1, 9)}


@pytest.mark.parametrize("name", STORABLE)
@SLOW_BUT_SURE
@given(data=st.data())
def test_unpack_inverts_pack_and_bytes_are_as_documented(name: str, data: st.DataObject) -> None:
    weight_format = get_format(name)
    shape = data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=3))
    numel = int(np.prod(shape))
    values = data.draw(st.lists(st.sampled_from(levels(weight_format)), min_size=numel, max_size=numel))
    codes = torch.tensor(values, dtype=torch.int8).reshape(shape)

    packed = weight_format.pack(codes)
    assert packed.dtype == torch.uint8
    assert packed.dim() == 1
    assert packed.numel() == weight_format.packed_bytes(numel)
    assert bytes(packed.tolist()) == slow_pack(weight_format, values)

    unpacked = weight_format.unpack(packed, numel)
    assert unpacked.dtype == torch.int8
    assert unpacked.shape == (numel,)
    assert unpacked.tolist() == values


@pytest.mark.parametrize("name", STORABLE)
@pytest.mark.parametrize("numel", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 63, 64, 65])
def test_every_small_size(name: str, numel: int) -> None:
    weight_format = get_format(name)
    codes = some_codes(weight_format, numel)
    packed = weight_format.pack(codes)
    assert bytes(packed.tolist()) == slow_pack(weight_format, codes.tolist())
    assert torch.equal(weight_format.unpack(packed, numel), codes)


@pytest.mark.parametrize("name", ["binary", "ternary", "int3", "int7_asymmetric", "int8"])
@pytest.mark.parametrize("numel", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5])
def test_sizes_around_the_chunk_boundary(name: str, numel: int) -> None:
    weight_format = get_format(name)
    codes = some_codes(weight_format, numel)
    packed = weight_format.pack(codes)
    assert packed.numpy().tobytes() == numpy_pack(weight_format, codes.numpy())
    assert torch.equal(weight_format.unpack(packed, numel), codes)


@pytest.mark.parametrize(
    ("name", "codes", "expected"),
    [
        ("binary", [1, -1, -1, 1, 1, -1, -1, -1, 1], [0b00011001, 0b1]),
        ("ternary", [-1, -1, -1, -1, -1], [0]),
        ("ternary", [1, 1, 1, 1, 1], [242]),
        ("ternary", [0, 1, -1, 0, 1, 1], [1 + 2 * 3 + 0 * 9 + 1 * 27 + 2 * 81, 2]),
        ("int2", [-2, -1, 0, 1], [0b11100100]),
        ("int3", [5 - 4, 1 - 4, 6 - 4], [0x8D, 0x01]),
        ("int4", [-8, 7, 0], [0xF0, 0x08]),
        ("int5", [-16, 15, 0], [0xE0, 0x43]),
        ("int8", [-128, 0, 127], [0x00, 0x80, 0xFF]),
        ("int8_asymmetric", [-128, 0, 127], [0x00, 0x80, 0xFF]),
    ],
)
def test_bytes_written_out_by_hand(name: str, codes: list[int], expected: list[int]) -> None:
    # These bytes are in files: they may never change.
    assert get_format(name).pack(torch.tensor(codes, dtype=torch.int8)).tolist() == expected


@pytest.mark.parametrize("name", STORABLE)
def test_a_transposed_view_is_packed_row_major_and_left_alone(name: str) -> None:
    weight_format = get_format(name)
    codes = some_codes(weight_format, 35).reshape(5, 7).t()
    before = codes.clone()
    packed = weight_format.pack(codes)
    assert torch.equal(packed, weight_format.pack(before.contiguous()))
    assert torch.equal(codes, before)


@pytest.mark.parametrize("name", STORABLE)
def test_unpack_leaves_its_input_alone_and_shares_no_memory(name: str) -> None:
    weight_format = get_format(name)
    packed = weight_format.pack(some_codes(weight_format, 16))
    before = packed.clone()
    weight_format.unpack(packed, 16).zero_()
    assert torch.equal(packed, before)


@pytest.mark.parametrize("name", STORABLE)
@pytest.mark.parametrize("change", ["longer", "shorter", "int8", "matrix", "empty"])
def test_bytes_of_the_wrong_length_type_or_shape(name: str, change: str) -> None:
    weight_format = get_format(name)
    packed = weight_format.pack(some_codes(weight_format, 20))
    wrong = {
        "longer": torch.cat([packed, packed[:1] * 0]),
        "shorter": packed[:-1],
        "int8": packed.to(torch.int8),
        "matrix": packed.reshape(1, -1),
        "empty": packed[:0],
    }[change]
    with pytest.raises(FormatError, match=f"^{name}: 20 codes take {packed.numel()} bytes"):
        weight_format.unpack(wrong, 20)


@pytest.mark.parametrize("name", [name for name in DENSE if get_format(name).bits < 8])
def test_every_set_padding_bit_is_noticed(name: str) -> None:
    weight_format = get_format(name)
    bits = int(weight_format.bits)
    for numel in range(1, 10):
        packed = weight_format.pack(some_codes(weight_format, numel))
        for bit in range(numel * bits, packed.numel() * 8):
            corrupt = packed.clone()
            corrupt[-1] |= 1 << (bit % 8)
            with pytest.raises(FormatError, match="padding"):
                weight_format.unpack(corrupt, numel)


@pytest.mark.parametrize("numel", [1, 2, 3, 4])
def test_ternary_padding_is_noticed(numel: int) -> None:
    weight_format = get_format("ternary")
    packed = weight_format.pack(-torch.ones(numel, dtype=torch.int8))
    for digit in range(numel, 5):
        with pytest.raises(FormatError, match="padding"):
            weight_format.unpack(packed + 3**digit, numel)


@pytest.mark.parametrize("byte", range(243, 256))
def test_a_byte_that_holds_no_five_ternary_codes(byte: int) -> None:
    packed = torch.tensor([0, byte, 0], dtype=torch.uint8)
    with pytest.raises(FormatError, match=str(byte)):
        get_format("ternary").unpack(packed, 15)


@pytest.mark.parametrize("name", STORABLE)
def test_codes_out_of_range_are_not_packed(name: str) -> None:
    weight_format = get_format(name)
    low, high = weight_format.code_range
    for code in (low - 1, high + 1):
        with pytest.raises(FormatError, match=name):
            weight_format.pack(torch.tensor([low, code, high], dtype=torch.int16))


def test_a_zero_is_no_binary_code() -> None:
    with pytest.raises(FormatError, match="binary"):
        get_format("binary").pack(torch.tensor([1, 0, -1], dtype=torch.int8))


@pytest.mark.parametrize("name", TOO_WIDE)
def test_training_formats_are_not_stored(name: str) -> None:
    weight_format = get_format(name)
    with pytest.raises(FormatError, match="training format"):
        weight_format.pack(torch.zeros(3, dtype=torch.int32))
    with pytest.raises(FormatError, match="training format"):
        weight_format.unpack(torch.zeros(6, dtype=torch.uint8), 3)
