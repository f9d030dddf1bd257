"""Traces a frozen model to an ONNX graph that contains placeholder nodes for its packed layers.

The nodes come from ``placeholders`` and are replaced before a file is written.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from xtc_ds.clone import clone_model
from xtc_ds.engines.placeholders import placeholder
from xtc_ds.engines.takes import Takes
from xtc_ds.errors import ExportError
from xtc_ds.runtime.packed import PackedLayer

__all__ = ["OPSET", "packed_layers", "traced_graph"]

OPSET = 18


def packed_layers(frozen: nn.Module) -> dict[str, PackedLayer]:
    """Packed layers by name; the nodes of a traced graph refer to them by these names."""
    return {name: module for name, module in frozen.named_modules() if isinstance(module, PackedLayer)}


def traced_graph(frozen: nn.Module, sample: Mapping[str, Tensor] | None, takes: Takes) -> onnx.ModelProto:
    """The model in ONNX operators and placeholder nodes; inputs and outputs keep their names.

    sample: inputs by name, with a batch of at least two; by default token ids, an attention mask and, if the model has
        them, token types. The first dimension is dynamic in the result, and the second one of integer inputs (tokens).
    takes: which weights become placeholder nodes; others become float constants.

    Raises ExportError if the model cannot be traced.
    """
    inputs = dict(sample) if sample is not None else _token_inputs(frozen)
    shell = _Shell(_traceable(frozen, takes))
    with torch.no_grad():
        names = shell.output_names(inputs)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            program: Any = torch.onnx.export(
                shell.eval(),
                (),
                kwargs={"inputs": inputs},
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes={"inputs": {name: _dynamic(value) for name, value in inputs.items()}},
                input_names=list(inputs),
                output_names=names,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(f"{type(frozen).__name__} cannot be traced: {error}") from error
    model: onnx.ModelProto = program.model_proto
    # Remove leftovers of the trace: sizes of the sample, source lines.
    del model.graph.value_info[:], model.functions[:], model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    _name_axes(model.graph)
    return model


def _name_axes(graph: onnx.GraphProto) -> None:
    """Name the dynamic dimensions of inputs and outputs "batch" and "sequence"."""
    names: dict[str, str] = {}
    for value in [*graph.input, *graph.output]:
        for dimension, name in zip(value.type.tensor_type.shape.dim, ("batch", "sequence"), strict=False):
            if dimension.dim_param:
                dimension.dim_param = names.setdefault(dimension.dim_param, name)


def _token_inputs(frozen: nn.Module) -> dict[str, Tensor]:
    config = getattr(frozen, "config", None)
    if getattr(frozen, "main_input_name", None) != "input_ids" or config is None:
        raise ExportError(
            f"{type(frozen).__name__} does not say what its inputs are; give sample={{name: tensor}} with two samples"
        )
    ids = torch.randint(0, config.vocab_size, (2, 7), generator=torch.Generator().manual_seed(0))
    result = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if getattr(config, "type_vocab_size", 0) > 1:
        result["token_type_ids"] = torch.zeros_like(ids)
    return result


def _dynamic(value: Tensor) -> dict[int, Any]:
    free = torch.export.Dim.DYNAMIC
    return {0: free} if value.is_floating_point() or value.dim() < 2 else {0: free, 1: free}


class _Shell(nn.Module):
    """Wraps a model to return only the tensors of its output, in order."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return tuple(self._run(inputs).values())

    def output_names(self, inputs: dict[str, Tensor]) -> list[str]:
        return list(self._run(inputs))

    def _run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        options = {"use_cache": False} if hasattr(getattr(self.model, "config", None), "use_cache") else {}
        output = self.model(**inputs, **options)
        if isinstance(output, Tensor):
            return {"output": output}
        pairs = output.items() if isinstance(output, Mapping) else ((f"output_{i}", x) for i, x in enumerate(output))
        return {name: value for name, value in pairs if isinstance(value, Tensor)}


def _traceable(frozen: nn.Module, takes: Takes) -> nn.Module:
    model = clone_model(frozen, lambda old, stored: old, partial(placeholder, takes))
    config = getattr(model, "config", None)
    if hasattr(model, "set_attn_implementation"):
        own = copy.deepcopy(config)
        for module in model.modules():
            if getattr(module, "config", None) is config:
                module.config = own  # type: ignore[assignment]
        # The exporter expands fused attention with checks for fully masked rows, which cost time.
        model.set_attn_implementation("eager")  # type: ignore[operator]
    return model
