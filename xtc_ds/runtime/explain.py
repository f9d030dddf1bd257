"""Reports which backend computes each layer of a frozen model, and why faster backends are not used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from xtc_ds.kernels.backend import Inputs
from xtc_ds.kernels.backends import ENCODER
from xtc_ds.kernels.choose import Choice, choose
from xtc_ds.layer_kinds import packed_class
from xtc_ds.runtime.fused import encoder_layers
from xtc_ds.runtime.fused_layer import encoder_spec, no_whole_layer
from xtc_ds.runtime.packed import PackedSpec

__all__ = ["KernelUse", "explain_kernels"]


@dataclass(frozen=True)
class KernelUse:
    """Layers of one kind, stored in one way, that one backend computes.

    kind: "linear", "embedding" ..., or "encoder layer", which only the runtime "fused" has. weight, inputs: how they
    are stored and quantized, as text. backend: its name. instructions: the instruction set it uses; None where the
    backend does not choose one. passed_over: (name, reason) of each faster backend. layers: their names.
    """

    kind: str
    weight: str
    inputs: str
    backend: str
    instructions: str | None
    passed_over: tuple[tuple[str, str], ...]
    layers: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-compatible data."""
        passed_over = [{"backend": name, "reason": reason} for name, reason in self.passed_over]
        return asdict(self) | {"passed_over": passed_over, "layers": list(self.layers)}


def explain_kernels(
    specs: Mapping[str, PackedSpec], inputs: Inputs, runtime: str = "packed", model: nn.Module | None = None
) -> list[KernelUse]:
    """The backends that compute the layers of a frozen model on this machine; layers with equal entries are merged.

    specs: the packed layers by name, in order. inputs: the device and float dtype that the model would run with.
    runtime: see ``set_runtime``. model: searched for encoder layers if the runtime is "fused"; it may be on "meta".
    """
    found: dict[KernelUse, list[str]] = {}
    for name, spec in specs.items():
        choice = choose(packed_class(spec.kind).backends, spec.product(runtime == "unpacked"), inputs)
        found.setdefault(_use(spec.kind, _weight(spec), _inputs(spec), choice), []).append(name)
    if runtime == "fused" and model is not None:
        for name, layer in encoder_layers(model):
            found.setdefault(_use("encoder layer", "", "", _encoder(layer, inputs)), []).append(name)
    return [replace(use, layers=tuple(names)) for use, names in found.items()]


def _encoder(layer: nn.Module, inputs: Inputs) -> Choice[Any, Any]:
    reason = no_whole_layer(layer)
    if reason is None:
        return choose(ENCODER, encoder_spec(layer), inputs)
    return Choice(ENCODER[-1], tuple((backend.name, reason) for backend in ENCODER[:-1]))


def _use(kind: str, weight: str, inputs: str, choice: Choice[Any, Any]) -> KernelUse:
    backend = choice.backend
    return KernelUse(kind, weight, inputs, backend.name, backend.instructions(), choice.passed_over, layers=())


def _weight(spec: PackedSpec) -> str:
    scales = {"tensor": "one scale", "row": "a scale per row", "group": f"{spec.grouping.groups} scales"}
    stored = "float" if spec.format is None else f"{spec.format}, {scales[spec.grouping.kind]}"
    return stored + (", sparse" if spec.sparse is not None else ", masked" if spec.masked else "")


def _inputs(spec: PackedSpec) -> str:
    if spec.activation is None:
        return "as they are"
    shifted = "" if spec.activation.symmetric else " asymmetric"
    return f"{spec.activation.bits} bits{shifted}, {spec.activation.calibration}"
