"""Packed linear layers on the native kernel: the same bits as the slow reference, however they are called."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest
import torch
from torch import Tensor

from xtc_ds.errors import FormatError
from xtc_ds.formats import ActivationFormat, Grouping, get_format
from xtc_ds.kernels import linear_on_codes
from xtc_ds.kernels.native import native_library, packed_tiles
from xtc_ds.kernels.unpack_rows import unpack_rows
from xtc_ds.runtime import PackedLinear, PackedSpec, set_runtime
from xtc_ds.storage import Coded

FORMATS = ("binary", "ternary", "int2", "int3", "int4", "int5", "int6", "int7", "int8")
if native_library() is None:
    pytest.skip("no C compiler here", allow_module_level=True)


def packed_layer(
    name: str = "binary",
    shape: tuple[int, int] = (37, 65),
    per: str = "row",
    bits: int = 8,
    calibration: str = "dynamic",
    bias: bool = True,
    dtype: torch.dtype = torch.float32,
) -> PackedLinear:
    weight_format, grouping = get_format(name), Grouping(per)  # type: ignore[arg-type]
    spec = PackedSpec("linear", Coded(weight_format, grouping, shape), ActivationFormat(bits, True, calibration))  # type: ignore[arg-type]
    layer = PackedLinear(spec, bias, dtype)
    encoded = weight_format.encode(grouping.split(torch.randn(shape)))
    layer.weight.data = weight_format.pack(encoded.codes)
    layer.weight_scale.copy_(encoded.scale.flatten())
    if bias:
        layer.bias.data = torch.randn(shape[0]).to(dtype)  # type: ignore[union-attr]
    if calibration == "static":
        layer.activation_quantizer.x_min_max.copy_(torch.tensor([-1.5, 2.25]))
    return layer.eval()


def reference(layer: PackedLinear, x: Tensor) -> Tensor:
    spec = layer.spec
    range_ = layer.activation_quantizer.x_min_max if hasattr(layer, "activation_quantizer") else None
    assert spec.activation is not None
    return linear_on_codes(x, layer.encoded(), spec.activation, range_, layer.bias)


@pytest.mark.parametrize("runtime", ["packed", "unpacked"])
@pytest.mark.parametrize("name", FORMATS)
def test_the_layer_gives_the_bits_of_the_reference(name: str, runtime: str) -> None:
    for per, calibration, bits in (("row", "dynamic", 8), ("tensor", "static", 8), ("row", "static", 4)):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            layer = packed_layer(name, per=per, calibration=calibration, bits=bits, dtype=dtype)
            set_runtime(layer, runtime)
            for rows in ((), (0,), (1,), (2, 3), (40,)):
                x = torch.randn(*rows, 65).to(dtype)
                found = layer(x)
                assert found.dtype == dtype
                assert torch.equal(found, reference(layer, x)), (per, calibration, bits, dtype, rows)


def test_large_layers_are_tiled_in_pieces_that_end_on_whole_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_tiles, "_CODES_AT_ONCE", 1000)
    for name in FORMATS:
        for shape in ((1, 3), (16, 1), (163, 7), (400, 13)):
            layer = packed_layer(name, shape)
            x = torch.randn(5, shape[1])
            assert torch.equal(layer(x), reference(layer, x)), (name, shape)


def test_an_input_need_not_be_contiguous() -> None:
    layer = packed_layer()
    x = torch.randn(65, 3, 4).permute(2, 1, 0)
    assert torch.equal(layer(x), reference(layer, x))


def test_changed_tensors_are_seen() -> None:
    layer, other = packed_layer(), packed_layer()
    x = torch.randn(4, 65)
    layer(x)
    layer.weight_scale.mul_(2)
    assert torch.equal(layer(x), reference(layer, x))
    layer.bias.data = torch.zeros(37)  # type: ignore[union-attr]
    layer.bias.add_(1)  # type: ignore[union-attr]
    assert torch.equal(layer(x), reference(layer, x))
    layer.load_state_dict(other.state_dict())
    assert torch.equal(layer(x), other(x))
    static = packed_layer(calibration="static")
    static(x)
    static.activation_quantizer.x_min_max.mul_(3)
    assert torch.equal(static(x), reference(static, x))


def test_what_is_kept_is_neither_copied_nor_saved() -> None:
    layer = packed_layer(shape=(512, 512))
    x = torch.randn(2, 512)
    expected = layer(x)
    assert len(pickle.dumps(layer)) < 2 * 512 * 512 // 8
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin._bound == {}
        assert torch.equal(twin(x), expected)


def test_tiles_are_shared_by_tied_layers_and_go_with_the_last_one() -> None:
    first, second = packed_layer(), packed_layer()
    second._parameters["weight"] = first.weight
    before = len(packed_tiles._tiles)
    first(torch.randn(1, 65)), second(torch.randn(1, 65))
    assert len(packed_tiles._tiles) <= before + 1
    assert first.tiled().weight is second.tiled().weight  # type: ignore[union-attr]
    del first, second
    packed_layer()(torch.randn(1, 65))
    assert len(packed_tiles._tiles) <= before + 1


def test_scales_survive_a_model_of_16_bits() -> None:
    layer = packed_layer("int4")
    scale = layer.weight_scale.clone()
    layer.bfloat16()
    assert layer.bias.dtype == torch.bfloat16  # type: ignore[union-attr]
    assert torch.equal(layer.weight_scale, scale)
    x = torch.randn(3, 65).bfloat16()
    assert torch.equal(layer(x), reference(layer, x))


def test_a_layer_on_meta_tells_the_shape_of_its_output() -> None:
    layer = packed_layer().to("meta")
    assert layer(torch.empty(2, 5, 65, device="meta")).shape == (2, 5, 37)


def test_inference_mode() -> None:
    layer = packed_layer()
    x = torch.randn(3, 65)
    expected = layer(x)
    with torch.inference_mode():
        assert torch.equal(layer(x), expected)
        made_inside = packed_layer()
        assert torch.equal(made_inside(x), reference(made_inside, x))


def test_threads_of_python_do_not_disturb_each_other() -> None:
    layer = packed_layer(shape=(64, 300))
    inputs = [torch.randn(size, 300) for size in (1, 3, 20, 50)]
    expected = [reference(layer, x) for x in inputs]
    wrong: list[int] = []

    def work(number: int) -> None:
        wrong.extend(number for _ in range(50) if not torch.equal(layer(inputs[number]), expected[number]))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_mistakes_are_named() -> None:
    layer = packed_layer()
    with pytest.raises(FormatError, match="takes 65 features"):
        layer(torch.randn(2, 64))
    with pytest.raises(FormatError, match="the input is on the CPU, the packed weight on meta"):
        packed_layer().to("meta")(torch.randn(2, 65))
    damaged = packed_layer("ternary")
    damaged.weight.data[0] = 255
    with pytest.raises(FormatError, match="holds no five codes"):
        damaged(torch.randn(2, 65))


def test_the_operator_keeps_the_rules_of_operators() -> None:
    for name, calibration in (("binary", "dynamic"), ("ternary", "static")):
        layer = packed_layer(name, calibration=calibration)
        range_ = layer.activation_quantizer.x_min_max if calibration == "static" else None
        arguments = (torch.randn(7, 65), layer.weight, layer.weight_scale, layer.bias, range_, name, 37, 65, 8, False)
        torch.library.opcheck(torch.ops.xtc_ds.packed_linear.default, arguments)


@pytest.mark.parametrize("calibration", ["dynamic", "static"])
def test_layers_compile_and_export_before_they_were_called(calibration: str) -> None:
    x = torch.randn(5, 65)
    layer = packed_layer("ternary", calibration=calibration)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), reference(layer, x))
    layer = packed_layer("ternary", calibration=calibration)
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    other = torch.randn(9, 65)
    assert torch.equal(program.module()(other), reference(layer, other))
    assert {"weight", "weight_scale", "bias"} <= set(program.state_dict)


def test_a_traced_layer_computes() -> None:
    layer = packed_layer()
    traced = torch.jit.trace(layer, (torch.randn(5, 65),))
    x = torch.randn(5, 65)
    assert torch.equal(traced(x), reference(layer, x))


@pytest.mark.parametrize("name", FORMATS)
def test_rows_are_unpacked_without_the_others(name: str) -> None:
    weight_format = get_format(name)
    for height, width in ((1, 1), (3, 2), (7, 5), (9, 8), (5, 13), (4, 40)):
        codes = weight_format.encode(torch.randn(1, height * width)).codes
        rows = torch.tensor([height - 1, 0, height // 2, 0])
        found = unpack_rows(weight_format.pack(codes), weight_format, width, rows)
        assert torch.equal(found, codes.reshape(height, width)[rows]), (height, width)
        assert unpack_rows(weight_format.pack(codes), weight_format, width, rows[:0]).shape == (0, width)


def test_without_a_kernel_the_numbers_are_the_same_and_one_warning_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    layer, x = packed_layer("ternary"), torch.randn(2, 3, 65)
    expected = layer(x)
    try:
        for variable, value, warnings in (("XTC_DS_NATIVE", "0", 0), ("CC", "no-such-compiler", 1)):
            monkeypatch.setenv(variable, value)
            native_library.cache_clear()
            layer.forget()
            caplog.clear()
            for _ in range(2):
                assert torch.equal(layer(x), expected)
            assert layer.tiled() is None
            assert layer(x[:0]).shape == (0, 3, 37)
            assert sum("no native kernel" in message for message in caplog.messages) == warnings
            monkeypatch.delenv(variable)
    finally:
        native_library.cache_clear()
