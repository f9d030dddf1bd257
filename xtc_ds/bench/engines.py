"""The engines: each converts a packed folder to a function that runs the model on token ids.

Other engines (peers) get the same model with its decoded weights as floats, and quantize it in their own way.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xtc_ds.bench.dense import dense_model

__all__ = ["ENGINES", "GROUPS", "Engine", "Run"]

# Takes token ids (batch, tokens), int64.
Run = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Engine:
    """make: called with (packed folder, folder with the peers' files, threads); returns a function of token ids.

    file: name of the file that it reads in the peers' folder. weight_bytes: bytes per weight in the ordinary checkpoint
        that it would read. If neither is given, it reads the packed folder. exact: whether it computes in float32.
    """

    label: str
    make: Callable[[Path, Path, int], Run]
    packages: tuple[str, ...] = ()
    file: str | None = None
    weight_bytes: int = 0
    exact: bool = False

    def missing(self) -> tuple[str, ...]:
        """The required packages that are not installed."""
        return tuple(name for name in self.packages if importlib.util.find_spec(name) is None)


def _torch_run(model: Any) -> Run:
    options = {"use_cache": False} if hasattr(model.config, "use_cache") else {}

    def run(ids: Tensor) -> Any:
        with torch.inference_mode():
            return model(input_ids=ids, attention_mask=torch.ones_like(ids), **options)[0]

    return run


def _packed(runtime: str) -> Callable[[Path, Path, int], Run]:
    def make(folder: Path, peers: Path, threads: int) -> Run:
        from xtc_ds.checkpoint import load

        return _torch_run(load(folder, runtime))

    return make


def _torch_fp32(folder: Path, peers: Path, threads: int) -> Run:
    return _torch_run(dense_model(folder))


def _torch_bf16(folder: Path, peers: Path, threads: int) -> Run:
    return _torch_run(torch.nn.Module.bfloat16(dense_model(folder)))


def _torch_int8(folder: Path, peers: Path, threads: int) -> Run:
    quantize: Any = torch.ao.quantization.quantize_dynamic
    return _torch_run(quantize(dense_model(folder), {torch.nn.Linear}, dtype=torch.qint8))


def _onnxruntime(file: str) -> Callable[[Path, Path, int], Run]:
    def make(folder: Path, peers: Path, threads: int) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(peers / file), options, providers=["CPUExecutionProvider"])
        names = [node.name for node in session.get_inputs()]
        return lambda ids: session.run(None, _feeds(names, ids))[0]

    return make


def _openvino(file: str) -> Callable[[Path, Path, int], Run]:
    def make(folder: Path, peers: Path, threads: int) -> Run:
        import openvino

        core = openvino.Core()
        model = core.read_model(peers / file)
        hints = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(model, "CPU", hints)
        names = [node.get_any_name() for node in compiled.inputs]
        request = compiled.create_infer_request()
        return lambda ids: request.infer(_feeds(names, ids))[0]

    return make


def _feeds(names: list[str], ids: Tensor) -> dict[str, Any]:
    values = {"input_ids": ids.numpy(), "attention_mask": np.ones(ids.shape, np.int64)}
    return {name: values.get(name, np.zeros(ids.shape, np.int64)) for name in names}


FP32_FILE, DYNAMIC_FILE, STATIC_FILE = "fp32.onnx", "dynamic_int8.onnx", "static_int8.onnx"

ENGINES: dict[str, Engine] = {
    "packed": Engine("xtc_ds, packed", _packed("packed")),
    "fused": Engine("xtc_ds, fused", _packed("fused")),
    "unpacked": Engine("xtc_ds, unpacked to int8", _packed("unpacked")),
    "torch-fp32": Engine("torch fp32", _torch_fp32, weight_bytes=4, exact=True),
    "torch-bf16": Engine("torch bf16", _torch_bf16, weight_bytes=2),
    "torch-int8": Engine("torch int8, dynamic", _torch_int8, weight_bytes=4),
    "onnx-fp32": Engine(
        "ONNX Runtime fp32", _onnxruntime(FP32_FILE), ("onnx", "onnxscript", "onnxruntime"), FP32_FILE, exact=True
    ),
    "onnx-int8": Engine(
        "ONNX Runtime int8, dynamic", _onnxruntime(DYNAMIC_FILE), ("onnx", "onnxscript", "onnxruntime"), DYNAMIC_FILE
    ),
    "openvino-fp32": Engine(
        "OpenVINO fp32", _openvino(FP32_FILE), ("onnx", "onnxscript", "openvino"), FP32_FILE, exact=True
    ),
    "openvino-int8": Engine(
        "OpenVINO int8, static", _openvino(STATIC_FILE), ("onnx", "onnxscript", "onnxruntime", "openvino"), STATIC_FILE
    ),
}

# Values of ``--against`` and the engines that they select.
GROUPS: dict[str, tuple[str, ...]] = {
    "fused": ("fused",),
    "unpacked": ("unpacked",),
    "fp32": ("torch-fp32",),
    "bf16": ("torch-bf16",),
    "int8": ("torch-int8",),
    "onnx": ("onnx-fp32", "onnx-int8"),
    "openvino": ("openvino-fp32", "openvino-int8"),
}
