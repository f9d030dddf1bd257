"""GGUF files, read again with the package's own reader and decoded from the published layout of the blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.export.engines.engine_models import block, frozen
from xtc_ds.errors import ExportError
from xtc_ds.export.engines import export_to

gguf = pytest.importorskip("gguf", reason="needs gguf")

GROUPS = {
    "binary": ({"target_bits": 1}, ["query", "word_embeddings"]),
    "ternary": ({"target_bits": 2}, ["key", "position_embeddings"]),
    "int4": ({"target_bits": 4}, ["value"]),
    "int8": ({"target_bits": 8}, ["dense"]),
}
TYPES = {
    "query": ("Q1_0", "blk.0.attn_q.weight"),
    "key": ("TQ2_0", "blk.0.attn_k.weight"),
    "value": ("Q4_0", "blk.0.attn_v.weight"),
}


def model() -> Any:
    return frozen("bert", block(GROUPS, {}), layers=1, hidden_size=256, intermediate_size=64)


def decoded(tensor: Any) -> np.ndarray:
    if tensor.tensor_type.name != "Q1_0":  # which the package cannot decode
        return gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    blocks = tensor.data.reshape(-1, 18)
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    signs = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little").astype(np.float32) * 2 - 1
    return (scale * signs).reshape(tuple(reversed(tensor.shape.tolist())))


def test_every_tensor_is_the_weight_that_the_codes_stand_for(tmp_path: Path) -> None:
    frozen_model = model()
    report = export_to(frozen_model, tmp_path / "o", "gguf")
    assert "vocabulary" in report.differs[0]
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "o" / "model.gguf").tensors}
    assert len(tensors) == 5 + 16 + 4  # embeddings, the layer, pooler and classifier
    attention = frozen_model.bert.encoder.layer[0].attention
    for key, (kind, name) in TYPES.items():
        assert tensors[name].tensor_type.name == kind
        assert np.array_equal(decoded(tensors[name]), getattr(attention.self, key).dense_weight().numpy())
    output = frozen_model.bert.encoder.layer[0].attention.output.dense.dense_weight().numpy()
    assert np.array_equal(decoded(tensors["blk.0.attn_output.weight"]), output)
    embeddings = frozen_model.bert.embeddings
    assert np.array_equal(decoded(tensors["token_embd.weight"]), embeddings.word_embeddings.dense_weight().numpy())
    # llama.cpp wants these as float32, whatever they were packed as.
    places = tensors["position_embd.weight"]
    assert places.tensor_type.name == "F32"
    assert np.array_equal(places.data, embeddings.position_embeddings.dense_weight().numpy())
    assert np.array_equal(tensors["blk.0.attn_q.bias"].data, attention.self.query.bias.numpy())


def test_what_no_block_holds_is_refused(tmp_path: Path) -> None:
    small = frozen("bert", block({"all": ({"target_bits": 1}, ["query"])}, {}), layers=1, hidden_size=48)
    with pytest.raises(ExportError, match="query: rows of 48 weights .* no whole blocks of 32; use the container onnx"):
        export_to(small, tmp_path / "o", "gguf")
    shifted = block({"all": ({"target_bits": 4}, ["query"])}, {}, quantization_type="asymmetric")
    with pytest.raises(ExportError, match="int4_asymmetric has no zero"):
        export_to(frozen("bert", shifted, layers=1, hidden_size=64), tmp_path / "o", "gguf")
    with pytest.raises(ExportError, match="written for models of type bert"):
        export_to(frozen("gpt2", block({"all": ({"target_bits": 1}, ["attn"])}, {}), layers=1), tmp_path / "o", "gguf")
    compression = block({"all": ({"target_bits": 1}, ["query"])}, {})
    compression["export"]["float_dtype"] = "float32"
    with pytest.raises(ExportError, match="scales do not fit float16"):
        export_to(frozen("bert", compression, layers=1, hidden_size=64), tmp_path / "o", "gguf")
    assert not list(tmp_path.iterdir())
