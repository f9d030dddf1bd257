"""What the layers of a frozen model share: a stored weight, and what is kept of it once it is used."""

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

# See set_runtime.
RUNTIMES = ("packed", "unpacked", "fused")


@dataclass(frozen=True)
class PackedSpec:
    """All that is needed, beside the tensors, to rebuild one packed layer.

    kind: which class of packed layers it is, such as "linear" (see ``xtc_ds.layer_kinds``).
    weight: how the weight is stored, shape (O, I); (O, I / groups, kH, kW) of a convolution.
    """

    kind: str
    weight: StoredWeight
    activation: ActivationFormat | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight, outputs first."""
        return self.weight.shape

    @property
    def coded(self) -> Coded | None:
        """The codes that kernels multiply, of all weights or of those that are not pruned; None: there are none."""
        around = self.weight.around if isinstance(self.weight, Masked | Sparse) else self.weight
        return around if isinstance(around, Coded) else None

    @property
    def format(self) -> str | None:
        """Name of the weight format; None where the weight is not made of codes."""
        return None if self.coded is None else self.coded.format.name

    @property
    def weight_format(self) -> WeightFormat:
        """The weight format. Raises FormatError if there is none."""
        if self.coded is None:
            raise FormatError("the layer has no packed weight")
        return self.coded.format

    @property
    def grouping(self) -> Grouping:
        """Which weights share the parts of the format."""
        return Grouping() if self.coded is None else self.coded.grouping

    @property
    def masked(self) -> bool:
        """Whether a mask hides what codes of pruned weights stand for."""
        return isinstance(self.weight, Masked) or (isinstance(self.weight, Sparse) and self.weight.around.needs_mask)

    @property
    def sparse(self) -> Sparse | None:
        """The weight where pruned weights are left out."""
        return self.weight if isinstance(self.weight, Sparse) else None

    def product(self, unpacked: bool = False) -> ProductSpec:
        """What the kernels are told. unpacked: the layer keeps its weight unpacked in memory."""
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
    """A module with the tensors of a stored weight, under the names of its parts.

    Values (codes or floats) are parameters, because transformers ties weights by parameter name; what lies beside
    them are buffers.
    """

    # How many dimensions the weight has.
    dimensions: ClassVar[int] = 2
    # The first version of the file format that knows such a layer.
    version: ClassVar[int] = 1
    # What can compute the layer, the fastest first. Kinds that say nothing decode their weight.
    backends: ClassVar[Sequence[Backend[ProductSpec, Any]]] = DECODED

    weight: Tensor
    weight_scale: Tensor

    def __init__(self, spec: PackedSpec, dtype: torch.dtype, device: torch.device | str | None) -> None:
        super().__init__()
        self.spec = spec
        self.runtime = RUNTIMES[0]
        # What was made of the tensors, by name, with their state at that time. Never copied nor saved.
        self._made: dict[str, tuple[object, Any]] = {}
        # What was bound, by the ``Inputs`` that it was chosen for. Never copied nor saved.
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
        """The tensors of the stored weight by the names of its parts."""
        parameters, buffers = self._parameters, self._buffers
        return {name: parameters[name] if name in parameters else buffers[name] for name in self.part_names}  # type: ignore[misc]

    @classmethod
    def empty_like(
        cls, module: nn.Module, spec: PackedSpec, dtype: torch.dtype, device: torch.device | str | None
    ) -> PackedLayer:
        """A layer without values for the plain or compressed ``module``, with all else that it takes from it."""
        raise NotImplementedError

    def codes(self) -> Tensor:
        """The int8 codes in the weight's shape."""
        coded, sparse = self._coded(), self.spec.sparse
        if sparse is not None:
            return sparse.elements(self.tensors())
        return coded.read(self.weight, math.prod(coded.shape)).reshape(coded.shape)

    def packed_codes(self) -> Tensor:
        """The codes of all weights in the packing of the layer's format, uint8 (bytes,); of a sparse weight a copy."""
        if self.spec.sparse is None:
            return self.weight
        packed: Tensor = self.made_once("packed_codes", lambda: self._coded().write(self.codes()))
        return packed

    def mask(self) -> Tensor | None:
        """Which weights are not pruned, bool, in the weight's shape; None where that is not stored."""
        weight = self.spec.weight
        return weight.mask(self.tensors()) if isinstance(weight, Masked | Sparse) else None

    def made_once(self, name: str, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, kept until the layer's tensors change."""
        if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
            return make()  # traced: no tensor to keep
        state = [(id(tensor), tensor.device, version_of(tensor)) for tensor in self.tensors().values()]
        if name not in self._made or self._made[name][0] != state:
            self._made[name] = (state, make())
        return self._made[name][1]

    def bind(self, key: tuple[Any, ...]) -> Any:
        """What the best backend for ``Inputs(*key)`` bound for this kind of layer, for the next time too."""
        spec = self.spec.product(self.runtime == "unpacked")
        bound = choose(self.backends, spec, Inputs(*key)).backend.bind(spec)
        if not torch.compiler.is_compiling():  # a graph makes its own
            self._bound[key] = bound
        return bound

    def forget(self) -> None:
        """Drop what is kept beside the layer's tensors."""
        self._made.clear()
        self._bound = {}

    def encoded(self, keep: bool = False) -> Encoded:
        """Codes (O, I) with the parts of G groups, as ``decode`` takes them once split. A mask is not in them.

        keep: the int8 codes for the next time.
        """
        codes = self.made_once("codes", self.codes) if keep else self.codes()
        return Encoded(codes, self.parts(), self.spec.weight_format)

    def parts(self) -> dict[str, Tensor]:
        """What lies beside the codes, by the format's names, float32 (G, 1) or (G, size)."""
        return self._coded().format_parts(self.tensors())

    def decoded(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weight in the spec's shape, computed in float32."""
        return self.spec.weight.decode(self.tensors(), dtype)

    def dense_weight(self) -> Tensor:
        """The float32 weight in the spec's shape."""
        return self.decoded()

    def used_weight(self, dtype: torch.dtype) -> Tensor:
        """The weight for a product of floats: decoded for each call or, unpacked, once."""
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
        # Parts of a format stay as the file has them, in a model of 16 bits too: rounding them again would change it.
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
    """What tells the weight of a module from those of others: equal for modules that are tied; () without a weight."""
    values = module.tensors().values() if isinstance(module, PackedLayer) else [module._parameters.get("weight")]
    return tuple(id(tensor) for tensor in values if isinstance(tensor, nn.Parameter))


def share_packed_tensors(layer: nn.Module, owner: nn.Module) -> None:
    """Let ``layer`` use the weight tensors of ``owner``: tied layers have one set. Float weights may be unpacked."""
    keys = {"weight"}
    for module in (layer, owner):
        keys |= set(module.part_names) if isinstance(module, PackedLayer) else set()
    for key in keys:
        share_tensor(layer, key, owner, key)


def share_tensor(layer: nn.Module, key: str, owner: nn.Module, owner_key: str) -> None:
    """Let a tensor of ``layer`` be the one of ``owner``, if that has it."""
    if owner_key in owner._parameters:
        layer._parameters[key] = owner._parameters[owner_key]
    elif owner_key in owner._buffers:
        layer._buffers[key] = owner._buffers[owner_key]
