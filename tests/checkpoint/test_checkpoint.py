"""Freeze, write, load: what was trained is what is shipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import xtc_ds
from tests.tiny import ARCHITECTURES, batch, block, ds_config, tiny_model
from xtc_ds.errors import ExportError
from xtc_ds.freezing import is_frozen
from xtc_ds.layers import set_step
from xtc_ds.runtime import PackedEmbedding, PackedLayer, PackedLinear

INPUTS = batch(labels=False)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(**INPUTS).logits
    return result


def compressed(kind: str = "bert", **options: Any) -> Any:
    model = tiny_model(kind)
    xtc_ds.compress(model, ds_config(block(**options)))
    return model.eval()


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_round_trip_through_from_pretrained_gives_equal_logits(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = compressed(kind, exclude=["^classifier$|classifier\\.out_proj$|^score$"], shared={"granularity": "row"})
    frozen = xtc_ds.freeze(model)
    report = xtc_ds.export_packed(frozen, tmp_path / "packed")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "packed").eval()
    assert torch.allclose(logits(loaded), logits(frozen), atol=1e-6, rtol=0)
    assert torch.allclose(logits(frozen), logits(model), atol=1e-2)
    assert report.file_bytes == (tmp_path / "packed" / "model.safetensors").stat().st_size


@pytest.mark.parametrize(
    "options",
    [
        {"bits": 1},
        {"bits": 2},
        {"bits": 2, "params": {"format": "integer"}},
        {"bits": 2, "shared": {"quantization_type": "asymmetric"}},
        {"bits": 3, "shared": {"quantize_groups": 16}},
        {"bits": 4, "shared": {"granularity": "row"}},
        {"bits": 8, "shared": {"quantization_type": "asymmetric", "granularity": "row"}},
        {"bits": 8, "activation": None},
        {"bits": 1, "activation": 4, "activation_shared": {"quantization_type": "asymmetric"}},
        {"bits": 1, "export": "float32"},
        {"bits": 1, "export": "bfloat16"},
        {"bits": 5, "exclude": ["classifier"]},
    ],
    ids=str,
)
def test_every_format_is_shipped_as_it_was_trained(options: dict[str, Any], tmp_path: Path) -> None:
    model = compressed(**options)
    frozen = xtc_ds.freeze(model)
    xtc_ds.export_packed(frozen, tmp_path / "packed")
    assert torch.allclose(logits(xtc_ds.load(tmp_path / "packed")), logits(frozen), atol=1e-6, rtol=0)
    # Scales stored in 16 bits, and another order of sums, are the only differences; they can move an input by a step.
    coarse = options.get("export") == "bfloat16" or options.get("activation") == 4
    assert torch.allclose(logits(frozen), logits(model), atol=0.05 if coarse else 1e-2)


def test_static_ranges_are_shipped(tmp_path: Path) -> None:
    model = compressed(activation_shared={"range_calibration": "static"}).train()
    model(**INPUTS)
    frozen = xtc_ds.freeze(model.eval())
    xtc_ds.export_packed(frozen, tmp_path / "packed")
    assert torch.allclose(logits(xtc_ds.load(tmp_path / "packed")), logits(frozen), atol=1e-6, rtol=0)
    assert torch.allclose(logits(frozen), logits(model), atol=5e-3)


def test_layers_whose_input_alone_is_quantized_are_shipped(tmp_path: Path) -> None:
    compression = block()
    del compression["weight_quantization"]
    model = tiny_model().eval()
    xtc_ds.compress(model, ds_config(compression))
    frozen = xtc_ds.freeze(model)
    xtc_ds.export_packed(frozen, tmp_path / "packed")
    assert torch.allclose(logits(xtc_ds.load(tmp_path / "packed")), logits(frozen), atol=1e-6, rtol=0)


def test_freezing_ends_the_schedule_and_leaves_the_model_alone() -> None:
    model = compressed(shared={"schedule_offset": 100})
    set_step(model, 0)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    frozen: Any = xtc_ds.freeze(model)
    assert frozen.bert.pooler.dense.spec.format == "binary"
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert not is_frozen(model)
    assert xtc_ds.freeze(frozen) is frozen


def test_packed_tensors_are_small_and_named_weight(tmp_path: Path) -> None:
    xtc_ds.export_packed(compressed(), tmp_path / "packed")
    tensors = load_file(tmp_path / "packed" / "model.safetensors")
    weight = tensors["bert.encoder.layer.0.intermediate.dense.weight"]
    assert (weight.dtype, weight.shape) == (torch.uint8, (64 * 32 // 8,))
    assert {t.dtype for t in tensors.values()} == {torch.uint8, torch.float16}


@pytest.mark.slow
def test_transformers_without_xtc_ds_refuses_the_file(tmp_path: Path) -> None:
    import subprocess
    import sys

    xtc_ds.export_packed(compressed(), tmp_path / "packed")
    code = (
        "import sys; from transformers import AutoModelForSequenceClassification as A\n"
        f"A.from_pretrained({str(tmp_path / 'packed')!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "mismatch" in done.stderr


def test_tied_tables_are_stored_once_and_stay_tied(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=50, n_positions=16)).eval()
    options = block(activation=None, shared={"granularity": "row"}, modules=["*"], exclude=["wpe"])
    xtc_ds.compress(model, ds_config(options))
    frozen: Any = xtc_ds.freeze(model)
    report = xtc_ds.export_packed(frozen, tmp_path / "packed")
    names = set(load_file(tmp_path / "packed" / "model.safetensors"))
    assert "transformer.wte.weight" in names
    assert "lm_head.weight" not in names
    loaded: Any = xtc_ds.load(tmp_path / "packed")
    assert loaded.lm_head.weight.data_ptr() == loaded.transformer.wte.weight.data_ptr()
    ids = torch.tensor([[1, 2, 3]])
    assert torch.allclose(loaded(input_ids=ids).logits, frozen(input_ids=ids).logits, atol=1e-6, rtol=0)
    assert (
        report.tensor_bytes == xtc_ds.make_plan(GPT2LMHeadModel(model.config), xtc_ds.parse_block(options)).sizes.packed
    )


class Plain(nn.Module):
    """A model that transformers does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 16)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(16, 16), nn.GELU()) for _ in range(2))
        self.head = nn.Linear(16, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table(ids).mean(1)
        for layer in self.layers:
            x = x + layer(x)
        out: torch.Tensor = self.head(x)
        return out


def test_any_module_can_be_written_and_filled_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Plain().eval()
    xtc_ds.compress(model, ds_config(block(exclude=["head"], modules=["*"], activation=None)))
    frozen = xtc_ds.freeze(model)
    xtc_ds.export_packed(frozen, tmp_path / "packed")
    again = xtc_ds.load_into(Plain(), tmp_path / "packed")
    ids = torch.randint(0, 20, (2, 5))
    assert torch.equal(again(ids), frozen(ids))
    assert isinstance(again.table, PackedEmbedding)
    assert isinstance(again.layers[0][0], PackedLinear)  # type: ignore[index]


def test_a_loaded_model_can_be_saved_again_as_it_is(tmp_path: Path) -> None:
    frozen = xtc_ds.freeze(compressed())
    xtc_ds.export_packed(frozen, tmp_path / "first")
    loaded: Any = xtc_ds.load(tmp_path / "first")
    loaded.save_pretrained(tmp_path / "second")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) and first[name].dtype == second[name].dtype for name in first)
    assert torch.equal(logits(xtc_ds.load(tmp_path / "second")), logits(loaded))


class TestWriting:
    def test_equal_models_give_equal_bytes(self, tmp_path: Path) -> None:
        frozen = xtc_ds.freeze(compressed())
        files = set()
        for index in range(12):
            xtc_ds.export_packed(frozen, tmp_path / str(index))
            files.add((tmp_path / str(index) / "model.safetensors").read_bytes())
        assert len(files) == 1

    def test_a_folder_with_other_files_is_not_touched(self, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("keep")
        with pytest.raises(ExportError, match="holds files that are not an earlier export"):
            xtc_ds.export_packed(compressed(), tmp_path)
        assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]

    def test_an_earlier_export_is_replaced_whole(self, tmp_path: Path) -> None:
        xtc_ds.export_packed(compressed(bits=8), tmp_path / "packed")
        xtc_ds.export_packed(compressed(bits=1), tmp_path / "packed")
        assert xtc_ds.load(tmp_path / "packed").bert.pooler.dense.spec.format == "binary"  # type: ignore[union-attr]
        assert [file.name for file in tmp_path.iterdir()] == ["packed"]

    def test_a_failure_leaves_the_earlier_export(self, tmp_path: Path) -> None:
        xtc_ds.export_packed(compressed(), tmp_path / "packed")
        before = (tmp_path / "packed" / "model.safetensors").read_bytes()

        class Broken:
            def save_pretrained(self, folder: str) -> None:
                raise OSError("disk full")

        with pytest.raises(ExportError, match="disk full"):
            xtc_ds.export_packed(compressed(bits=4), tmp_path / "packed", tokenizer=Broken())
        assert (tmp_path / "packed" / "model.safetensors").read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == ["packed"]

    def test_values_too_large_for_the_stored_type_are_named(self) -> None:
        model = compressed()
        model.classifier.bias.data.fill_(1e6)
        with pytest.raises(ExportError, match=r"classifier.bias: values up to 1e\+06 do not fit torch.float16"):
            xtc_ds.freeze(model)

    def test_weights_that_are_not_finite_are_refused(self) -> None:
        model = compressed()
        model.bert.pooler.dense.weight.data[0, 0] = float("nan")
        with pytest.raises(ExportError, match="bert.pooler.dense.weight holds NaN"):
            xtc_ds.freeze(model)


class TestDamagedFolders:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        xtc_ds.export_packed(compressed(), tmp_path / "packed")
        return tmp_path / "packed"

    def edit(self, folder: Path, **changes: Any) -> None:
        file = folder / "config.json"
        config = json.loads(file.read_text())
        config["quantization_config"] |= changes
        file.write_text(json.dumps(config))

    def test_a_newer_format_is_refused(self, folder: Path) -> None:
        self.edit(folder, format_version=5)
        with pytest.raises(ExportError, match="format_version: found 5, this xtc_ds reads 1 to 4; upgrade"):
            xtc_ds.load(folder)

    def test_an_unknown_weight_format_is_named(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())["quantization_config"]
        self.edit(folder, layers=[{**config["layers"][0], "format": "int1"}])
        with pytest.raises(ExportError, match=r"layers\[0\]: not understood: .*unknown weight format 'int1'"):
            xtc_ds.load(folder)

    def test_a_file_of_another_version_is_refused(self, folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ExportError, match="format version None"):
            xtc_ds.load(folder)

    def test_a_dense_folder_is_no_packed_checkpoint(self, tmp_path: Path) -> None:
        tiny_model().save_pretrained(tmp_path)
        with pytest.raises(ExportError, match="not a packed checkpoint"):
            xtc_ds.load(tmp_path)

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ExportError, match="cannot be read"):
            xtc_ds.load(tmp_path / "nowhere")


@pytest.mark.slow
def test_a_five_layer_bert_base_packs_more_than_50_times_smaller_on_disk(tmp_path: Path) -> None:
    """The shipped 1-bit config against the 12-layer float32 checkpoint of bert-base-uncased's shape."""
    from transformers import BertConfig, BertForSequenceClassification

    teacher_config = BertConfig()
    with torch.device("meta"):
        dense = BertForSequenceClassification(teacher_config)
    dense_bytes = 4 * sum(parameter.numel() for parameter in dense.parameters())
    config, compression = xtc_ds.load_config(Path(__file__).parents[2] / "json_configs" / "xtc_1bit.json")
    raw = {**compression.raw, "layer_reduction": {"enabled": True, "keep_number_layer": 5}}
    # Twelve layers would be initialised only for seven to be dropped: a student that is shallow already.
    student = BertForSequenceClassification(BertConfig(num_hidden_layers=5))
    plan = xtc_ds.compress(student, {**config, "compression_training": raw}, teacher=dense_teacher(dense))
    report = xtc_ds.export_packed(student, tmp_path / "packed")
    assert plan.reduction is not None
    assert plan.reduction.kept == (2, 4, 6, 8, 10)
    assert report.tensor_bytes == plan.sizes.packed
    assert dense_bytes / report.file_bytes > 50


def dense_teacher(meta: nn.Module) -> nn.Module:
    """The 12-layer model with all layers sharing one set of random tensors, to stay quick."""
    model = meta.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
    return model


def test_packed_layers_report_what_they_are() -> None:
    frozen = xtc_ds.freeze(compressed())
    layers = [module for module in frozen.modules() if isinstance(module, PackedLayer)]
    assert "32 -> 64, binary, scale per tensor, activation=8 bit" in repr(layers[4])
