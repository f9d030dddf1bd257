"""What the layers of a frozen model share: packed codes, and what is kept of them once they are used."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from xtc_ds.errors import FormatError
from xtc_ds.formats import ActivationFormat, Encoded, Grouping, SparseStorage, WeightFormat, get_format
from xtc_ds.formats.bits import packed_size, unpack_bits
from xtc_ds.kernels.per_storage import version_of
from xtc_ds.layers import RangeObserver

__all__ = [
    "RUNTIMES",
    "WEIGHT_KEYS",
    "PackedLayer",
    "PackedSpec",
    "share_packed_tensors",
]

# See set_runtime.
RUNTIMES = ("packed", "unpacked", "fused")

# The tensors that tied layers have in common.
WEIGHT_KEYS = ("weight", "weight_scale", "weight_zero", "weight_mask")


@dataclass(frozen=True)
class PackedSpec:
    """All that is needed, beside the tensors, to rebuild one packed layer.

    kind: which class of packed layers it is, such as "linear" (see ``xtc_ds.layer_kinds``).
    format: name of the weight format, or None where only the input is quantized.
    shape: (O, I) of the weight; (O, I / groups, kH, kW) of a convolution.
    masked: a mask lies beside the codes; where it is 0 the weight is 0.
    sparse: how the weights that are not pruned are stored without the others; None: all of them are.
    """

    kind: str
    format: str | None
    grouping: Grouping
    shape: tuple[int, ...]
    activation: ActivationFormat | None = None
    masked: bool = False
    sparse: SparseStorage | None = None

    @property
    def weight_format(self) -> WeightFormat:
        """The weight format. Raises FormatError if the name is unknown or there is none."""
        if self.format is None:
            raise FormatError("the layer has no packed weight")
        return get_format(self.format)


class PackedLayer(nn.Module):
    """Tensors: ``weight`` uint8 (bytes,), ``weight_scale`` float32 (G,) and, for shifted grids, ``weight_zero`` (G,).

    A pruned weight on a shifted grid has ``weight_mask`` uint8 (bytes,) as well, one bit per weight. Where only
    the input is quantized, ``weight`` is an ordinary float parameter of the spec's shape. Of a sparse weight,
    ``weight`` holds what is kept, flat, and ``weight_mask`` the places.
    """

    # How many dimensions the weight has.
    dimensions: ClassVar[int] = 2

    weight: Tensor
    weight_scale: Tensor
    weight_mask: Tensor | None

    def __init__(self, spec: PackedSpec, dtype: torch.dtype, device: torch.device | str | None) -> None:
        super().__init__()
        self.spec = spec
        self.runtime = RUNTIMES[0]
        # What was made of the tensors, by name, with their state at that time. Never copied nor saved.
        self._made: dict[str, tuple[object, Any]] = {}
        if spec.activation is not None and spec.activation.calibration == "static":
            self.activation_quantizer = RangeObserver().to(device or "cpu")
        numel = math.prod(spec.shape)
        mask_bytes = spec.sparse.mask_bytes(numel) if spec.sparse else packed_size(numel, 1) if spec.masked else None
        mask = None if mask_bytes is None else torch.empty(mask_bytes, dtype=torch.uint8, device=device)
        self.register_buffer("weight_mask", mask)
        if spec.format is None:
            shape = spec.shape if spec.sparse is None else (spec.sparse.kept,)
            self.weight = nn.Parameter(torch.empty(shape, dtype=dtype, device=device), requires_grad=False)
            return
        groups = spec.grouping.count(spec.shape)
        # A parameter, because transformers ties weights by parameter name.
        size = spec.weight_format.packed_bytes(numel) if spec.sparse is None else _kept_bytes(spec.sparse)
        codes = torch.empty(size, dtype=torch.uint8, device=device)
        self.weight = nn.Parameter(codes, requires_grad=False)
        for part in spec.weight_format.parts:
            values = torch.empty(part.shape(groups), dtype=torch.float32, device=device)
            self.register_buffer(f"weight_{part.name}", values)

    @classmethod
    def empty_like(
        cls, module: nn.Module, spec: PackedSpec, dtype: torch.dtype, device: torch.device | str | None
    ) -> PackedLayer:
        """A layer without values for the plain or compressed ``module``, with all else that it takes from it."""
        raise NotImplementedError

    def codes(self) -> Tensor:
        """The int8 codes in the weight's shape."""
        sparse = self.spec.sparse
        if sparse is not None:
            assert sparse.format is not None
            kept = get_format(sparse.format).unpack(self.weight, sparse.kept)
            return sparse.scattered(kept, self._places())
        numel = math.prod(self.spec.shape)
        return self.spec.weight_format.unpack(self.weight, numel).reshape(self.spec.shape)

    def packed_codes(self) -> Tensor:
        """The codes of all weights in the packing of the layer's format, uint8 (bytes,); of a sparse weight a copy."""
        if self.spec.sparse is None:
            return self.weight
        packed: Tensor = self.made_once("packed_codes", lambda: self.spec.weight_format.pack(self.codes()))
        return packed

    def mask(self) -> Tensor | None:
        """Where the weight is not zero by itself, bool, in the weight's shape; None where codes say all."""
        if self.weight_mask is None:
            return None
        if self.spec.sparse is not None:
            return self._places()
        return unpack_bits(self.weight_mask, 1, math.prod(self.spec.shape)).reshape(self.spec.shape).bool()

    def _places(self) -> Tensor:
        assert self.spec.sparse is not None
        assert self.weight_mask is not None
        return self.spec.sparse.unpack_mask(self.weight_mask, self.spec.shape)

    def made_once(self, name: str, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, kept until the layer's tensors change."""
        if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
            return make()  # traced: no tensor to keep
        tensors = (self._parameters["weight"], *map(self._buffers.get, WEIGHT_KEYS[1:]))
        state = [(id(tensor), tensor.device, version_of(tensor)) for tensor in tensors if tensor is not None]
        if name not in self._made or self._made[name][0] != state:
            self._made[name] = (state, make())
        return self._made[name][1]

    def forget(self) -> None:
        """Drop what is kept beside the layer's tensors."""
        self._made.clear()

    def encoded(self, keep: bool = False) -> Encoded:
        """Codes (O, I) with scales (G, 1), as ``decode`` takes them once split into groups. A mask is not in them.

        keep: the int8 codes for the next time.
        """
        codes = self.made_once("codes", self.codes) if keep else self.codes()
        return Encoded(codes, self.parts(), self.spec.weight_format)

    def parts(self) -> dict[str, Tensor]:
        """What lies beside the codes, by the format's names, float32 (G, 1) or (G, size)."""
        parts = self.spec.weight_format.parts
        return {part.name: part.per_group(self._buffers[f"weight_{part.name}"].float()) for part in parts}  # type: ignore[union-attr]

    def decoded(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weight that the codes and the mask stand for, in the spec's shape, computed in float32."""
        if self.spec.format is None:
            sparse = self.spec.sparse
            return self.weight.to(dtype) if sparse is None else sparse.scattered(self.weight, self._places()).to(dtype)
        encoded = self.encoded()
        w_GN = encoded.format.decode(self.spec.grouping.split(encoded.codes), encoded.parts)
        w_OI = w_GN.to(dtype).reshape(self.spec.shape)
        mask = self.mask() if self.spec.masked else None
        return w_OI if mask is None else w_OI.masked_fill(~mask, 0)

    def dense_weight(self) -> Tensor:
        """The float32 weight in the spec's shape."""
        return self.decoded()

    def used_weight(self, dtype: torch.dtype) -> Tensor:
        """The weight for a product of floats: decoded for each call or, unpacked, once."""
        if self.spec.format is None and self.spec.sparse is None:
            return self.weight
        if self.spec.format is not None and self.runtime != "unpacked":
            return self.decoded(dtype)
        decoded: Tensor = self.made_once(f"decoded {dtype}", lambda: self.decoded(dtype))
        return decoded

    def _apply(self, fn: Any, recurse: bool = True) -> PackedLayer:
        # Scales and zeros stay as the file has them, in a model of 16 bits too: rounding them again would change it.
        kept = {key: self._buffers.get(key) for key in ("weight_scale", "weight_zero")}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for key, exact in kept.items():
            moved = self._buffers.get(key)
            if exact is not None and moved is not None and moved.dtype != exact.dtype:
                self._buffers[key] = moved.to(exact.dtype) if exact.is_meta else exact.to(moved.device)
        self.forget()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": {}}

    def extra_repr(self) -> str:
        spec = self.spec
        act = f", activation={spec.activation.bits} bit" if spec.activation else ""
        size = f"{spec.shape[1]} -> {spec.shape[0]}" + "".join(f" x {side}" for side in spec.shape[2:])
        return f"{size}, {spec.format or 'float'}, scale per {spec.grouping.kind}{act}"


def _kept_bytes(sparse: SparseStorage) -> int:
    assert sparse.format is not None
    return get_format(sparse.format).packed_bytes(sparse.kept)


def share_packed_tensors(layer: nn.Module, owner: nn.Module) -> None:
    """Let ``layer`` use the weight tensors of ``owner``: tied layers have one set. Float weights may be unpacked."""
    layer._parameters["weight"] = owner._parameters["weight"]
    for key in WEIGHT_KEYS[1:]:
        if key in owner._buffers:
            layer._buffers[key] = owner._buffers[key]
