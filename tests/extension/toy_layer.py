"""A kind of layers that the package does not know: a Linear whose outputs pass through learned gates."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtc_ds.layer_kinds import LayerKind, exactly, register_compressed, register_kind, register_packed
from xtc_ds.layers import CompressedLayer
from xtc_ds.runtime import PackedLinear
from xtc_ds.runtime.packed import PackedSpec


class GatedLinear(nn.Linear):
    """``x`` (..., I) to (..., O); output o is multiplied by ``sigmoid(gate[o])``."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.gate = nn.Parameter(torch.linspace(-2, 2, out_features))

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * torch.sigmoid(self.gate)


class CompressedGatedLinear(CompressedLayer, GatedLinear):
    """The layer that is trained."""

    def forward(self, input: Tensor) -> Tensor:
        w_OI, bias_O = self.in_force(self.weight, self.bias)
        y: Tensor = F.linear(self.coded_input(self.transformed_input(input)), w_OI, bias_O)
        return y * torch.sigmoid(self.gate)


class PackedGatedLinear(PackedLinear):
    """The layer that is shipped."""

    def __init__(
        self, spec: PackedSpec, bias: bool, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
    ) -> None:
        super().__init__(spec, bias, dtype, device)
        self.gate = nn.Parameter(torch.empty(spec.shape[0], dtype=dtype, device=device), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * torch.sigmoid(self.gate.to(x.dtype))


GATED = LayerKind(
    "GatedLinear",
    exactly(GatedLinear),
    "linear",
    {"weight": ("out", "in"), "bias": ("out",), "gate": ("out",)},
    {"out_features": 0, "in_features": 1},
    packed="gated_linear",
)


def register() -> None:
    """Make the kind known; what a user's package names as its entry point."""
    register_kind(GATED)
    register_compressed("GatedLinear", CompressedGatedLinear)
    register_packed("gated_linear", PackedGatedLinear)


class Gates(nn.Module):
    """(N, 16) to (N, 4), the hidden 24 features gated."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = GatedLinear(16, 24)
        self.outer = GatedLinear(24, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(torch.relu(self.outer(torch.relu(self.inner(x)))))
        return y
