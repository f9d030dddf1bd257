"""Writes the ONNX files of other engines: float32, dynamic int8, static int8. A process, because it needs much memory.

python -m xtc_ds.bench.peers FOLDER TARGET FILE ...
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xtc_ds.bench.dense import dense_model
from xtc_ds.bench.engines import DYNAMIC_FILE, FP32_FILE, STATIC_FILE

__all__ = ["write_peers"]

_CALIBRATION_SEQUENCES, _CALIBRATION_TOKENS = 2, 32


def write_peers(folder: Path, target: Path, files: set[str]) -> None:
    """Write those of the three files that ``files`` names to ``target``; the float32 file is always written."""
    import onnx

    model = dense_model(folder)
    vocabulary = model.config.vocab_size
    onnx.save(_trace(model), target / FP32_FILE)
    del model
    if not files & {DYNAMIC_FILE, STATIC_FILE}:
        return
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logging.getLogger().setLevel(logging.ERROR)
    prepared = target / "prepared.onnx"
    quant_pre_process(target / FP32_FILE, prepared, skip_symbolic_shape=True)
    if DYNAMIC_FILE in files:
        quantize_dynamic(prepared, target / DYNAMIC_FILE, weight_type=QuantType.QInt8)
    if STATIC_FILE in files:
        names = [node.name for node in onnx.load(prepared, load_external_data=False).graph.input]
        quantize_static(
            prepared, target / STATIC_FILE, _Calibration(names, vocabulary), op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True, weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
            extra_options={"MatMulConstBOnly": True, "ActivationSymmetric": False},
        )  # fmt: skip


class _FirstOutput(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.options = {"use_cache": False} if hasattr(model.config, "use_cache") else {}

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        return self.model(input_ids=input_ids, attention_mask=attention_mask, **self.options)[0]


def _trace(model: Any) -> Any:
    # The exporter expands fused attention with checks for fully masked rows, which cost time.
    model.set_attn_implementation("eager")
    ids = torch.randint(0, model.config.vocab_size, (2, 7))
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    program: Any = torch.onnx.export(
        _FirstOutput(model).eval(), (ids, torch.ones_like(ids)), dynamo=True, opset_version=18, verbose=False,
        input_names=["input_ids", "attention_mask"], dynamic_shapes=(free, free),
    )  # fmt: skip
    proto = program.model_proto
    del proto.graph.value_info[:]  # sizes of the sample
    return proto


class _Calibration:
    """Calibration data of random tokens, which suffice because the ranges do not affect the speed."""

    def __init__(self, names: list[str], vocabulary: int) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (1, _CALIBRATION_TOKENS)
        self.batches = []
        for _ in range(_CALIBRATION_SEQUENCES):
            ids = torch.randint(0, vocabulary, shape, generator=generator)
            values = {"input_ids": ids.numpy(), "attention_mask": torch.ones_like(ids).numpy()}
            self.batches.append({name: values.get(name, torch.zeros_like(ids).numpy()) for name in names})

    def get_next(self) -> dict[str, Any] | None:
        return self.batches.pop() if self.batches else None


if __name__ == "__main__":
    write_peers(Path(sys.argv[1]), Path(sys.argv[2]), set(sys.argv[3:]))
