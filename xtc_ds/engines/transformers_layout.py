"""Converts a frozen model to the tensors of the transformers model that it was before compression."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from xtc_ds.compression_state import state_of
from xtc_ds.engines.base import refuse
from xtc_ds.errors import ExportError
from xtc_ds.layer_kinds import layer_kind_of
from xtc_ds.runtime.packed import PackedLayer, weight_identity

__all__ = ["TransformersLayout", "unquantized_inputs"]


class TransformersLayout:
    """Names and shapes of the uncompressed model, against which the shapes of all tensors are checked.

    frozen: a frozen transformers model. container: its name in error messages.

    Raises ExportError if transformers cannot build the model from its config, also because pruning made it smaller.
    """

    def __init__(self, frozen: nn.Module, container: str) -> None:
        config = getattr(frozen, "config", None)
        name = type(frozen).__name__
        if config is None or not hasattr(config, "save_pretrained"):
            raise ExportError(f"{container}: {name} has no transformers config; use the container onnx or openvino")
        shrinkage = state_of(frozen).shrinkage
        if shrinkage:
            smaller = next(iter(shrinkage.modules), name)
            why = "pruning made it smaller than the model's config says"
            raise refuse(container, str(smaller), why, "use the packed checkpoint or the container onnx or openvino")
        self.frozen, self.container = frozen, container
        self.stored_dtype: torch.dtype = getattr(torch, state_of(frozen).float_dtype)
        self.config = copy.deepcopy(config)
        if hasattr(self.config, "quantization_config"):
            del self.config.quantization_config
        self.config.architectures = [name]
        self.config.dtype = "float32"
        with torch.device("meta"):
            self.shape = type(frozen)(copy.deepcopy(self.config))

    def layers(self) -> dict[str, PackedLayer]:
        """Packed layers by name; only the first of tied layers."""
        found: dict[object, tuple[str, PackedLayer]] = {}
        for name, module in self.frozen.named_modules():
            if isinstance(module, PackedLayer):
                found.setdefault((module.spec.weight, weight_identity(module)), (name, module))
        return dict(found.values())

    def dense_weight(self, name: str, layer: PackedLayer) -> Tensor:
        """The decoded float32 weight in the layout of the uncompressed layer."""
        kind, weight = layer_kind_of(self.shape.get_submodule(name)), layer.dense_weight()
        return (weight if kind is None else kind.as_stored(weight)).contiguous()

    def float_weight(self, name: str, layer: PackedLayer) -> Tensor:
        """The decoded weight in the model's stored float dtype if that represents it exactly, else in float32."""
        weight = self.dense_weight(name, layer)
        stored = weight.to(self.stored_dtype)
        return stored if torch.equal(stored.float(), weight) else weight

    def tensors(self, packed: Callable[[str, PackedLayer], dict[str, Tensor]]) -> dict[str, Tensor]:
        """All tensors of the file: those that ``packed`` returns for each packed layer, and the model's other tensors.

        packed: called with a layer's name and the layer; returns its tensors by key (``weight``, ...).
        """
        result: dict[str, Tensor] = {}
        seen: set[int] = set()
        layers = self.layers()
        modules = dict(self.frozen.named_modules())
        for name, layer in layers.items():
            for key, tensor in packed(name, layer).items():
                result[f"{name}.{key}"] = tensor.contiguous()
        for name, tensor in self.frozen.state_dict(keep_vars=True).items():
            module, _, key = name.rpartition(".")
            packed_layer = modules.get(module)
            own = isinstance(packed_layer, PackedLayer) and packed_layer.spec.weight.part(key) is not None
            if own or ".activation_quantizer." in name or id(tensor) in seen:
                continue
            seen.add(id(tensor))
            value = tensor.detach().to("cpu")
            result[name] = (value.to(self.stored_dtype) if value.is_floating_point() else value).contiguous()
        self._check(result)
        return result

    def write(self, tensors: dict[str, Tensor], folder: Path, quantization: dict[str, Any] | None = None) -> None:
        """Write ``model.safetensors``, ``config.json`` and, if the model has one, the generation config."""
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        self.config.save_pretrained(folder)
        if quantization is not None:
            file = folder / "config.json"
            content = {**json.loads(file.read_text(encoding="utf-8")), "quantization_config": quantization}
            file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        generation = getattr(self.frozen, "generation_config", None)
        if generation is not None:
            generation.save_pretrained(folder)

    def _check(self, tensors: dict[str, Tensor]) -> None:
        shapes = {name: tensor.shape for name, tensor in self.shape.state_dict().items()}
        for name, tensor in tensors.items():
            if name in shapes and tensor.is_floating_point() and tensor.shape != shapes[name]:
                raise ExportError(
                    f"{self.container}: {name} has the shape {tuple(tensor.shape)}; {type(self.frozen).__name__} of "
                    f"this config has {tuple(shapes[name])}; use the packed checkpoint or the container onnx"
                )


def unquantized_inputs(layers: dict[str, PackedLayer]) -> tuple[str, ...]:
    """The note for containers that do not quantize inputs: how many layers lose it; empty if none does."""
    count = sum(layer.spec.activation is not None for layer in layers.values())
    return (f"the inputs of {count} layers are not quantized",) if count else ()
