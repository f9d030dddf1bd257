"""Frozen models that the tests of engines share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

import xtc_ds
from tests.tiny import activations, batch, ds_config, tiny_model
from xtc_ds.engines import export_to

INPUTS = batch(labels=False)

# One group of layers for every way to store weights.
MIXED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "binary": ({"target_bits": 1}, ["attention\\.self\\.query", "token_type_embeddings"]),
    "ternary": ({"target_bits": 2}, ["attention\\.self\\.key", "word_embeddings"]),
    "int2": ({"target_bits": 2, "format": "integer"}, ["layer\\.0\\.attention\\.self\\.value"]),
    "int3": ({"target_bits": 3}, ["layer\\.1\\.attention\\.self\\.value"]),
    "int4": ({"target_bits": 4}, ["attention\\.output\\.dense", "position_embeddings"]),
    "int5": ({"target_bits": 5}, ["layer\\.0\\.intermediate\\.dense"]),
    "int6": ({"target_bits": 6}, ["layer\\.1\\.intermediate\\.dense"]),
    "int7": ({"target_bits": 7}, ["layer\\.0\\.output\\.dense"]),
    "int8": ({"target_bits": 8}, ["layer\\.1\\.output\\.dense", "pooler"]),
}


def block(groups: dict[str, tuple[dict[str, Any], list[str]]], activation: dict[str, Any] | None, **shared: Any) -> Any:
    result: dict[str, Any] = {
        "weight_quantization": {
            "shared_parameters": {
                "enabled": True,
                "quantize_weight_in_forward": True,
                "schedule_offset": 0,
                "granularity": "row",
                **shared,
            },
            "different_groups": {
                name: {"params": {"start_bits": params["target_bits"], **params}, "modules": modules}
                for name, (params, modules) in groups.items()
            },
        },
        "export": {"float_dtype": "float16"},
    }
    if activation is not None:
        heads = ["embeddings|wte|wpe|^classifier$|^score$"]
        result["activation_quantization"] = activations(activation.pop("bits", 8), ["*"], heads, **activation)
    return result


def frozen(kind: str, compression: Any, train: bool = False, layers: int = 2, **config: Any) -> Any:
    model = tiny_model(kind, layers=layers, **config)
    xtc_ds.compress(model, ds_config(compression))
    if train:  # static ranges are seen in training
        model.train()(**INPUTS)
    return xtc_ds.freeze(model.eval())


def exported(folder: Path, container: str) -> tuple[Any, Path]:
    """A frozen BERT with a layer of every format, and the folder to which it is exported."""
    model = frozen("bert", block(MIXED, {}))
    export_to(model, folder, container)
    return model, folder


def logits(model: nn.Module, **inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(**inputs or INPUTS).logits
    return result


def numpy_inputs(names: list[str], inputs: dict[str, torch.Tensor]) -> dict[str, Any]:
    """What an engine is given: token types are zeros if the test has none."""
    zeros = torch.zeros_like(inputs["input_ids"])
    return {name: inputs.get(name, zeros).numpy() for name in names}


class Layers(nn.Module):
    """Linear layers side by side, whose results can be compared bit by bit."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({name: nn.Linear(48, 20) for name in names})

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: layer(x) for name, layer in self.layers.items()}


def side_by_side(
    groups: dict[str, dict[str, Any]], activation: dict[str, Any], **shared: Any
) -> tuple[nn.Module, torch.Tensor]:
    """Frozen layers, one per group of weight parameters, and an input with a token of zeros.

    Layers whose name begins with "plain" take their input as it is.
    """
    model = Layers(list(groups))
    weights = {name: (params, [f"layers\\.{name}$"]) for name, params in groups.items()}
    compression = block(weights, activation, **shared)
    compression["activation_quantization"]["different_groups"]["all"]["exclude"] = ["plain"]
    xtc_ds.compress(model, ds_config(compression))
    x = torch.randn(3, 7, 48, generator=torch.Generator().manual_seed(1)) * 3
    x[1, 2] = 0
    model.train()(x)  # static ranges are seen in training
    return xtc_ds.freeze(model.eval()), x


# Exact products of integers.
INTEGER_LAYERS = {
    "binary": {"target_bits": 1},
    "ternary": {"target_bits": 2, "granularity": "tensor"},
    "int3": {"target_bits": 3},
    "int8": {"target_bits": 8},
}
# Products of decoded weights.
DECODED_LAYERS = {
    "groups": {"target_bits": 2, "granularity": "tensor", "quantize_groups": 40},
    "plain_int5": {"target_bits": 5},
}
