"""The base class of the layers of a frozen model: a stored weight, and a cache of what is computed from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from xtc_ds.errors import FormatError
from xtc_ds.formats import ActivationFormat, Encoded, Grouping, WeightFormat
from xtc_ds.kernels.backend import Backend, Inputs, ProductSpec
from xtc_ds.kernels.backends import DECODED
from xtc_ds.kernels.choose import choose
from xtc_ds.kernels.per_storage import version_of
from xtc_ds.layers import RangeObserver
from xtc_ds.storage import Coded, Dense, Masked, Sparse, StoredWeight

__all__ = ["RUNTIMES", "PackedLayer", "PackedSpec", "share_packed_tensors", "share_tensor", "weight_identity"]

# Explained in set_runtime.
RUNTIMES = ("packed", "unpacked", "fused")


@dataclass(frozen=True)
class PackedSpec:
    """Everything besides the tensors that is needed to rebuild a packed layer.

    kind: the kind of packed layer, such as "linear" (see ``xtc_ds.layer_kinds``).
    weight: how the weight is stored; shape (O, I), or (O, I / groups, kH, kW) for a convolution.
    activation: how the input is quantized; None if it is not.
    """

    kind: str
    weight: StoredWeight
    activation: ActivationFormat | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight, outputs first."""
        return self.weight.shape

    @property
    def coded(self) -> Coded | None:
        """How the codes are stored (of all weights, or of those not pruned); None if the weight has no codes."""
        around = self.weight.around if isinstance(self.weight, Masked | Sparse) else self.weight
        return around if isinstance(around, Coded) else None

    @property
    def format(self) -> str | None:
        """Name of the weight format; None if the weight is not stored as codes."""
        return None if self.coded is None else self.coded.format.name

    @property
    def weight_format(self) -> WeightFormat:
        """The weight format. Raises FormatError if there is none."""
        if self.coded is None:
            raise FormatError("the layer has no packed weight")
        return self.coded.format

    @property
    def grouping(self) -> Grouping:
        """Which weights share the parts of the format, such as scales."""
        return Grouping() if self.coded is None else self.coded.grouping

    @property
    def masked(self) -> bool:
        """Whether the format has no code for zero, so that a mask sets pruned weights to zero."""
        return isinstance(self.weight, Masked) or (isinstance(self.weight, Sparse) and self.weight.around.needs_mask)

    @property
    def sparse(self) -> Sparse | None:
        """The stored weight if pruned weights are left out; else None."""
        return self.weight if isinstance(self.weight, Sparse) else None

    def product(self, unpacked: bool = False) -> ProductSpec:
        """The description for the kernels. unpacked: the layer keeps its weight unpacked in memory."""
        return ProductSpec(
            weight_format=None if self.coded is None else self.coded.format,
            grouping=self.grouping,
            shape=self.shape,
            activation=self.activation,
            masked=self.masked,
            sparse=self.sparse is not None,
            unpacked=unpacked,
        )


class PackedLayer(nn.Module):
    """A module that holds the tensors of a stored weight under the names of its parts.

    Values (codes or floats) are parameters, because transformers ties weights by parameter name; the other parts, such
    as scales and masks, are buffers.
    """

    # Number of dimensions of the weight.
    dimensions: ClassVar[int] = 2
    # The first version of the file format that supports this kind of layer.
    version: ClassVar[int] = 1
    # The backends that can compute the layer, fastest first. By default the weight is decoded to floats.
    backends: ClassVar[Sequence[Backend[ProductSpec, Any]]] = DECODED

    weight: Tensor
    weight_scale: Tensor

    def __init__(self, spec: PackedSpec, dtype: torch.dtype, device: torch.device | str | None) -> None:
        super().__init__()
        self.spec = spec
        self.runtime = RUNTIMES[0]
        # Cache of what was computed from the tensors: name to (state of the tensors, value). Never copied or saved.
        self._made: dict[str, tuple[object, Any]] = {}
        # Cache of bound operations: key of ``Inputs`` to operation. Never copied or saved.
        self._bound: dict[tuple[Any, ...], Any] = {}
        if spec.activation is not None and spec.activation.calibration == "static":
            self.activation_quantizer = RangeObserver().to(device or "cpu")
        self.part_names = tuple(part.name for part in spec.weight.parts())
        for part in spec.weight.parts():
            empty = part.empty(dtype, device)
            if part.values:
                self.register_parameter(part.name, nn.Parameter(empty, requires_grad=False))
            else:
                self.register_buffer(part.name, empty)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the stored weight, by the names of its parts."""
        parameters, buffers = self._parameters, self._buffers
        return {name: parameters[name] if name in parameters else buffers[name] for name in self.part_names}  # type: ignore[misc]

    @classmethod
    def empty_like(
        cls, module: nn.Module, spec: PackedSpec, dtype: torch.dtype, device: torch.device | str | None
    ) -> PackedLayer:
        """An uninitialized packed layer that replaces ``module`` (original or compressed) and has its attributes."""
        raise NotImplementedError

    def codes(self) -> Tensor:
        """The int8 codes in the weight's shape."""
        coded, sparse = self._coded(), self.spec.sparse
        if sparse is not None:
            return sparse.elements(self.tensors())
        return coded.read(self.weight, math.prod(coded.shape)).reshape(coded.shape)

    def packed_codes(self) -> Tensor:
        """The codes of all weights, packed by the layer's format, uint8 (bytes,); a copy if the weight is sparse."""
        if self.spec.sparse is None:
            return self.weight
        packed: Tensor = self.made_once("packed_codes", lambda: self._coded().write(self.codes()))
        return packed

    def mask(self) -> Tensor | None:
        """True for weights that are not pruned, bool, in the weight's shape; None if no mask is stored."""
        weight = self.spec.weight
        return weight.mask(self.tensors()) if isinstance(weight, Masked | Sparse) else None

    def made_once(self, name: str, make: Callable[[], Any]) -> Any:
        """The result of ``make``, cached under ``name`` until one of the layer's tensors changes."""
        if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
            return make()  # while tracing there are no real tensors to cache
        state = [(id(tensor), tensor.device, version_of(tensor)) for tensor in self.tensors().values()]
        if name not in self._made or self._made[name][0] != state:
            self._made[name] = (state, make())
        return self._made[name][1]

    def bind(self, key: tuple[Any, ...]) -> Any:
        """The operation that the best backend for ``Inputs(*key)`` binds for this layer; cached for later calls."""
        spec = self.spec.product(self.runtime == "unpacked")
        bound = choose(self.backends, spec, Inputs(*key)).backend.bind(spec)
        if not torch.compiler.is_compiling():  # a compiled graph binds its own
            self._bound[key] = bound
        return bound

    def forget(self) -> None:
        """Clear the caches."""
        self._made.clear()
        self._bound = {}

    def encoded(self, keep: bool = False) -> Encoded:
        """Codes in the weight's shape with the parts of G groups. A mask is not applied.

        To decode, split the codes by group first. keep: cache the int8 codes for later calls.
        """
        codes = self.made_once("codes", self.codes) if keep else self.codes()
        return Encoded(codes, self.parts(), self.spec.weight_format)

    def parts(self) -> dict[str, Tensor]:
        """The parts that the format stores besides the codes, by name, float32 (G, 1) or (G, size)."""
        return self._coded().format_parts(self.tensors())

    def decoded(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The decoded weight in the spec's shape, computed in float32 and cast to ``dtype``."""
        return self.spec.weight.decode(self.tensors(), dtype)

    def dense_weight(self) -> Tensor:
        """The float32 weight in the spec's shape."""
        return self.decoded()

    def used_weight(self, dtype: torch.dtype) -> Tensor:
        """The weight for float products: decoded on each call, or only once in the runtime "unpacked"."""
        if isinstance(self.spec.weight, Dense):
            return self.weight
        if self.spec.format is not None and self.runtime != "unpacked":
            return self.decoded(dtype)
        decoded: Tensor = self.made_once(f"decoded {dtype}", lambda: self.decoded(dtype))
        return decoded

    def _coded(self) -> Coded:
        assert self.spec.coded is not None, "callers know that there are codes"
        return self.spec.coded

    def _apply(self, fn: Any, recurse: bool = True) -> PackedLayer:
        # Float32 parts keep their dtype when the model is cast to 16 bits, because rounding would change the weight.
        exact = {
            part.name: self._buffers[part.name] for part in self.spec.weight.parts() if part.dtype == torch.float32
        }
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for key, old in exact.items():
            moved = self._buffers[key]
            if old is not None and moved is not None and moved.dtype != old.dtype:
                self._buffers[key] = moved.to(old.dtype) if old.is_meta else old.to(moved.device)
        self.forget()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": {}, "_bound": {}}

    def extra_repr(self) -> str:
        spec = self.spec
        act = f", activation={spec.activation.bits} bit" if spec.activation else ""
        size = f"{spec.shape[1]} -> {spec.shape[0]}" + "".join(f" x {side}" for side in spec.shape[2:])
        stored = "float" if isinstance(spec.weight, Dense) else spec.weight.kind
        return f"{size}, {spec.format or stored}, scale per {spec.grouping.kind}{act}"


def weight_identity(module: nn.Module) -> tuple[int, ...]:
    """A key that identifies the weight of a module: equal for modules with tied weights; () without a weight."""
    values = module.tensors().values() if isinstance(module, PackedLayer) else [module._parameters.get("weight")]
    return tuple(id(tensor) for tensor in values if isinstance(tensor, nn.Parameter))


def share_packed_tensors(layer: nn.Module, owner: nn.Module) -> None:
    """Tie ``layer`` to ``owner``: make it use the same weight tensors. Either may be an unpacked float module."""
    keys = {"weight"}
    for module in (layer, owner):
        keys |= set(module.part_names) if isinstance(module, PackedLayer) else set()
    for key in keys:
        share_tensor(layer, key, owner, key)


def share_tensor(layer: nn.Module, key: str, owner: nn.Module, owner_key: str) -> None:
    """Make tensor ``key`` of ``layer`` the same object as ``owner_key`` of ``owner``, if ``owner`` has that tensor."""
    if owner_key in owner._parameters:
        layer._parameters[key] = owner._parameters[owner_key]
    elif owner_key in owner._buffers:
        layer._buffers[key] = owner._buffers[owner_key]
