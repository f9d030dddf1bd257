"""Exported models in the engines that run them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["onnx_runtime", "openvino"]


def onnx_runtime(file: Path, threads: int) -> Callable[[dict[str, Any]], Any]:
    """A function from inputs to logits."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning threads would take the other engines' time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(["logits"], inputs)[0]


def openvino(file: Path, threads: int) -> Callable[[dict[str, Any]], Any]:
    """A function from inputs to logits."""
    from openvino import Core

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = Core().compile_model(file, "CPU", settings)
    return lambda inputs: compiled(inputs)["logits"]
