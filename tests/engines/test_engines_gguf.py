"""GGUF files, read again with the package's own reader and decoded from the published layout of the blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines.engine_models import block, frozen
from xtc_ds.engines import export_to
from xtc_ds.errors import ExportError

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
    assert report.differs[0] == "the file has no vocabulary, which llama.cpp asks for: none was given"
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


def tokenizer(folder: Path, **options: Any) -> Any:
    from transformers import BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "##ness", "##", "film"]
    (folder / "vocab.txt").write_text("\n".join(words))
    return BertTokenizerFast(str(folder / "vocab.txt"), **options)


def fields(folder: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(folder / "model.gguf").fields.items()}


def test_the_vocabulary_is_that_of_the_tokenizer(tmp_path: Path) -> None:
    report = export_to(model(), tmp_path / "o", "gguf", tokenizer=tokenizer(tmp_path))
    assert not any("vocabulary" in text for text in report.differs)
    assert (tmp_path / "o" / "tokenizer.json").exists()
    found = fields(tmp_path / "o")
    tokens, kinds = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokens[:10] == [*special, "\u2581good", "ness", "", "\u2581film", "[PAD9]"]
    assert len(tokens) == 100  # the rows of the embedding table
    control, normal, unused = (int(gguf.TokenType[name]) for name in ("CONTROL", "NORMAL", "UNUSED"))
    assert kinds == [control] * 5 + [normal] * 4 + [unused] * 91
    ids = {"bos": 2, "unknown": 1, "seperator": 3, "padding": 0, "mask": 4}
    assert {name: found[f"tokenizer.ggml.{name}_token_id"] for name in ids} == ids
    assert found["tokenizer.ggml.model"] == "bert"
    assert found["tokenizer.ggml.token_type_count"] == 2
    assert found["tokenizer.ggml.normalizer.lowercase"] is True
    assert found["tokenizer.ggml.normalizer.strip_accents"] is True
    # A classifier gives its scores.
    assert found["bert.pooling_type"] == int(gguf.PoolingType.RANK)
    assert found["bert.classifier.output_labels"] == ["LABEL_0", "LABEL_1"]


def test_cased_vocabularies_other_tokenizers_and_poolings(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    small, cased = model(), tokenizer(tmp_path, do_lower_case=False)
    export_to(small, tmp_path / "o", "gguf", tokenizer=cased, pooling="mean")
    found = fields(tmp_path / "o")
    assert found["tokenizer.ggml.normalizer.lowercase"] is False
    assert found["tokenizer.ggml.normalizer.strip_accents"] is False
    assert found["bert.pooling_type"] == int(gguf.PoolingType.MEAN)
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    report = export_to(small, tmp_path / "other", "gguf", tokenizer=other)
    assert "no vocabulary" in report.differs[0] and "no WordPiece tokenizer" in report.differs[0]
    with pytest.raises(ExportError, match="pooling: found 'max'; allowed: none, mean, cls, rank"):
        export_to(small, tmp_path / "wrong", "gguf", pooling="max")
    with pytest.raises(ExportError, match="gguf: options are pooling; found sample"):
        export_to(small, tmp_path / "wrong", "gguf", sample={})


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
