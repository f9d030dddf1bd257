"""The base of all compressed layers: it holds the transforms of weight and input, and those currently active."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from xtc_ds.formats import Encoded, WeightFormat
from xtc_ds.kernels.training import integer_linear
from xtc_ds.layer_kinds import LayerKind
from xtc_ds.layers.integer_forward import IntegerForward
from xtc_ds.layers.transforms import InputInForce, InputTransform, WeightInForce, WeightTransform
from xtc_ds.plan.rows import CodedInputRow, CodedRow

__all__ = ["CompressedLayer", "compressed_layers", "set_step"]


class CompressedLayer(IntegerForward):
    """Mixin of the classes that plain layers are converted to.

    The layer keeps its Parameters, hooks and state dict keys; the attributes below are plain Python attributes. Until
    the schedule first sets a step, the layer computes the same as the plain layer.
    """

    layer_kind: ClassVar[LayerKind]
    training: bool
    weight_transforms: tuple[WeightTransform, ...] = ()
    input_transforms: tuple[InputTransform, ...] = ()
    # Number of applied optimizer steps; None until a schedule sets it.
    step: int | None = None
    weight_in_force: tuple[WeightInForce, ...] = ()
    # Active input transforms that return floats; ``input_coding``, which quantizes, is applied after them.
    inputs_in_force: tuple[InputInForce, ...] = ()
    input_coding: InputInForce | None = None
    # Whether the active transforms amount to a plain product of integer codes.
    on_codes: bool = False

    def set_step(self, step: int) -> None:
        """Activate the transforms as scheduled for the state after ``step`` applied optimizer steps."""
        self.step = step
        weights = (transform.at(self, step) for transform in self.weight_transforms)
        self.weight_in_force = tuple(each for each in weights if each is not None)
        inputs = [each for transform in self.input_transforms if (each := transform.at(step)) is not None]
        self.inputs_in_force = tuple(each for each in inputs if each.format is None)
        self.input_coding = next((each for each in inputs if each.format is not None), None)
        alone = self.weight_in_force if len(self.weight_transforms) == 1 else ()
        self.coding = alone[0].coding if alone else None
        self.on_codes = self.integers_possible(self.input_coding.format if self.input_coding else None)

    @property
    def weight_format(self) -> WeightFormat | None:
        """The weight format that is currently active; None while the weight is float."""
        return next((each.format for each in self.weight_in_force if each.format is not None), None)

    @property
    def coded_row(self) -> CodedRow | None:
        """The plan row by which the weight is stored as codes, or None."""
        return next((each.row for each in self.weight_transforms if isinstance(each.row, CodedRow)), None)

    @property
    def coded_input_row(self) -> CodedInputRow | None:
        """The plan row by which the input is quantized, or None."""
        return next((each.row for each in self.input_transforms if isinstance(each.row, CodedInputRow)), None)

    def product_on_codes(self, x: Tensor, w_OI: Tensor, bias_O: Tensor | None) -> Tensor | None:
        """``x`` (..., I) times the weight, plus bias, as a product of integer codes; None if it does not apply here."""
        if not self.on_codes or not self.integers_pay(x):
            return None
        assert self.input_coding is not None
        assert self.input_coding.format is not None
        range_ = self.input_coding.range(self, x)
        return integer_linear(x, w_OI, bias_O, self.weight_codes, self.input_coding.format, range_, self.backward_dtype)

    def in_force(self, w: Tensor, bias_O: Tensor | None, rows_O: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The transformed weight (outputs first) and bias for the forward; ``rows_O`` as in ``WeightInForce``."""
        for each in self.weight_in_force:
            w, bias_O = each(self, w, bias_O, rows_O)
        return w, bias_O

    def transformed_input(self, x: Tensor) -> Tensor:
        """The input after all float transforms, before quantization."""
        for each in self.inputs_in_force:
            x = each(self, x)
        return x

    def coded_input(self, x: Tensor) -> Tensor:
        """``x``, the result of ``transformed_input``, quantized and dequantized if inputs are quantized now."""
        return x if self.input_coding is None else self.input_coding(self, x)

    def shipped_encoding(self, w_OI: Tensor) -> Encoded:
        """The codes of the whole weight to be shipped, groups in dim 0. With ZeRO-3 all ranks have to call this."""
        transform = next(each for each in self.weight_transforms if isinstance(each.row, CodedRow))
        return transform.shipped_encoding(self, w_OI)

    def samples(self, x: Tensor) -> Tensor:
        """The input reshaped so that all values that share a dynamic range are in the last dimension."""
        return x

    def kept_inputs(self) -> Tensor | None:
        """Indices (int64) of the inputs that the frozen layer will receive; None for all. Call it in the forward."""
        transforms: tuple[WeightTransform | InputTransform, ...] = (*self.weight_transforms, *self.input_transforms)
        found = (each.kept_inputs(self) for each in transforms)
        return next((kept for kept in found if kept is not None), None)

    def follow_copies(self, copies: Mapping[int, Any]) -> None:
        """Redirect the transforms of a copied layer to copied modules; ``copies``: id of each original to its copy."""
        self.input_transforms = tuple(each.follow_copies(copies) for each in self.input_transforms)
        if self.step is not None:
            self.set_step(self.step)

    def remove_transforms(self) -> None:
        """Remove all transforms, and the tensors and submodules that they added to the layer."""
        for weight in self.weight_transforms:
            weight.remove(self)
        for input_ in self.input_transforms:
            input_.remove(self)
        self.weight_transforms = self.input_transforms = ()


def compressed_layers(model: nn.Module) -> Iterator[tuple[str, CompressedLayer]]:
    """(name, layer) of all compressed layers of a model, in module order."""
    for name, module in model.named_modules():
        if isinstance(module, CompressedLayer):
            yield name, module


def set_step(model: nn.Module, step: int) -> None:
    """Set every compressed layer to the state after ``step`` applied optimizer steps."""
    for _, layer in compressed_layers(model):
        layer.set_step(step)
