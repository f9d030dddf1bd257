"""One chooser for every operation: what is passed over, and why; a format that says nothing is always decoded."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import xtc_ds.kernels.backends.encoder as encoder
import xtc_ds.kernels.training as training
from xtc_ds.formats import ActivationFormat, Grouping, WeightFormat, get_format
from xtc_ds.formats.base import Part
from xtc_ds.formats.integer import IntegerFormat
from xtc_ds.kernels.backend import Inputs, ProductSpec
from xtc_ds.kernels.backends import DECODED, ENCODER, LINEAR, LOOKUP, TRAINING
from xtc_ds.kernels.backends.encoder import EncoderSpec, NativeEncoder
from xtc_ds.kernels.choose import choose
from xtc_ds.kernels.native import native_library

CPU, CUDA, META = (Inputs(torch.device(name)) for name in ("cpu", "cuda", "meta"))
ROW, EIGHT_BITS = Grouping("row"), ActivationFormat(8)


class Curved(IntegerFormat):
    """Like int8 in everything but in what its codes stand for, of which it says nothing."""

    affine = WeightFormat.affine

    def __init__(self) -> None:
        super().__init__(8)


def spec(name: str = "int8", **changes: object) -> ProductSpec:
    given = {"grouping": ROW, "shape": (64, 64), "activation": EIGHT_BITS} | changes
    return ProductSpec(get_format(name), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("operation", [LINEAR, LOOKUP, TRAINING], ids=["linear", "lookup", "training"])
@pytest.mark.parametrize("inputs", [CPU, CUDA, META], ids=["cpu", "cuda", "meta"])
def test_a_format_that_says_nothing_is_never_multiplied_nor_looked_up_by_a_kernel(
    operation: tuple[object, ...], inputs: Inputs
) -> None:
    for activation in (EIGHT_BITS, None):
        for grouping in (ROW, Grouping("tensor")):
            chosen = choose(operation, ProductSpec(Curved(), grouping, (64, 64), activation), inputs)  # type: ignore[arg-type]
            plain = ("decoded", "fake quantization") if operation is not LOOKUP else ("torch",)
            assert chosen.backend.name in plain  # type: ignore[attr-defined]


@pytest.mark.parametrize("operation", [DECODED, LINEAR, LOOKUP, TRAINING], ids=["decoded", "linear", "lookup", "train"])
def test_the_last_backend_takes_everything(operation: tuple[object, ...]) -> None:
    floats = ProductSpec(None, Grouping(), (3, 4, 5, 6))
    for inputs in (CPU, CUDA, META, Inputs(torch.device("cpu"), torch.float64, needs_grad=True)):
        choice = choose(operation, floats, inputs)  # type: ignore[arg-type]
        assert choice.backend is operation[-1]
        assert [name for name, _ in choice.passed_over] == [b.name for b in operation[:-1]]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"activation": None}, "its input is not quantized"),
        ({"activation": ActivationFormat(8, symmetric=False)}, "quantized asymmetrically"),
        ({"name": "int4_asymmetric"}, "weights in int4_asymmetric are not codes times a scale"),
        ({"masked": True}, "a mask lies beside the codes"),
        ({"grouping": Grouping("group", 128)}, "more than one scale"),
        ({"name": "int16"}, "more than 8 bits"),
    ],
)
def test_reasons_against_a_product_of_integers(changes: dict[str, object], reason: str) -> None:
    choice = choose(LINEAR, spec(**changes), CPU)  # type: ignore[arg-type]
    assert choice.backend.name == "decoded"
    reasons = dict(choice.passed_over)
    assert reason in reasons["native"]
    assert reason in reasons["torch integers"]


def test_where_there_is_no_compiler_torch_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTC_DS_NATIVE", "0")
    native_library.cache_clear()
    try:
        choice = choose(LINEAR, spec(), CPU)
        assert choice.backend.name == "torch integers"
        assert "not built" in dict(choice.passed_over)["native"]
    finally:
        native_library.cache_clear()


def test_training_multiplies_integers_only_where_that_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xtc_ds.kernels.backends.conditions.cpu_multiplies_integers_fast", lambda: False)
    choice = choose(TRAINING, spec(), CPU)
    assert choice.backend.name == "fake quantization"
    assert {reason for _, reason in choice.passed_over} <= {
        "this processor multiplies floats faster than integers", "the C kernel is not built here, or XTC_DS_NATIVE=0"
    }  # fmt: skip
    assert choose(TRAINING, spec(), CUDA).backend.bind(spec()) is training.plain_layout
    odd = choose(TRAINING, spec(shape=(64, 63)), CUDA)
    assert "multiples of 8" in dict(odd.passed_over)["torch integers"]


class OwnGradient(IntegerFormat):
    """An affine format whose gradient is not straight through."""

    def fake_quantize(self, *arguments: object, **options: object) -> torch.Tensor:  # type: ignore[override]
        raise NotImplementedError


class LearnedScale(IntegerFormat):
    """An affine format that learns its scales."""

    @property
    def parts(self) -> tuple[Part, ...]:  # type: ignore[override]
        return (Part("scale", learned=True),)


@pytest.mark.parametrize(("kind", "reason"), [(OwnGradient, "a gradient of its own"), (LearnedScale, "are learned")])
def test_gradients_that_are_not_straight_through_are_left_to_the_format(kind: type[IntegerFormat], reason: str) -> None:
    given = ProductSpec(kind(8), ROW, (64, 64), EIGHT_BITS)
    for inputs in (CPU, CUDA):
        choice = choose(TRAINING, given, inputs)
        assert choice.backend.name == "fake quantization"
        assert reason in dict(choice.passed_over)["torch integers"]
    assert choose(LINEAR, given, CPU).backend.name != "decoded"


def encoder_spec(heads: int = 2, activations: tuple[ActivationFormat, ...] = (EIGHT_BITS,) * 6) -> EncoderSpec:
    shapes = [(64, 64)] * 4 + [(128, 64), (64, 128)]
    products = [spec(shape=shape, activation=act) for shape, act in zip(shapes, activations, strict=True)]
    return EncoderSpec(tuple(products), heads)


def test_whole_layers_need_avx512_and_known_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    if native_library() is None:
        pytest.skip("no C compiler here")
    monkeypatch.setattr(encoder, "native_library", lambda: SimpleNamespace(has_encoder=False, path_name="AVX2"))
    choice = choose(ENCODER, encoder_spec(), CPU)
    assert choice.backend.name == "module by module"
    assert choice.passed_over == (("native", "it needs a processor with AVX-512 VNNI, not AVX2"),)
    monkeypatch.setattr(encoder, "native_library", lambda: SimpleNamespace(has_encoder=True, path_name="AVX-512 VNNI"))
    assert isinstance(choose(ENCODER, encoder_spec(), CPU).backend, NativeEncoder)

    def refused(given: EncoderSpec, inputs: Inputs = CPU) -> str:
        return str(NativeEncoder().refuses(given, inputs))

    assert "heads of 16 features" in refused(encoder_spec(heads=4))
    other = ActivationFormat(4)
    assert "query, key and value" in refused(encoder_spec(activations=(EIGHT_BITS, other, *(EIGHT_BITS,) * 4)))
    assert "computes in float32" in refused(encoder_spec(), Inputs(torch.device("cpu"), torch.bfloat16))
    swapped = EncoderSpec((*encoder_spec().linears[:4], *reversed(encoder_spec().linears[4:])), 2)
    assert "other sizes" in refused(swapped)
