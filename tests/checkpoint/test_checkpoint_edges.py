"""Freezing, writing and loading what is not quite ordinary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import xtc_ds
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.errors import ExportError
from xtc_ds.runtime import PackedLinear

INPUTS = batch(labels=False)


def compressed(**options: Any) -> Any:
    model = tiny_model()
    xtc_ds.compress(model, ds_config(block(**options)))
    return model.eval()


def gpt2_lm() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=50, n_positions=16)).eval()


@pytest.mark.slow
def test_a_compiled_model_is_frozen_like_any_other() -> None:
    model = compressed(params={"start_bits": 8, "quantization_period": 10, "target_bits": 1}, bits=8)
    expected = xtc_ds.freeze(model)(**INPUTS).logits
    wrapped: Any = torch.compile(model, backend="eager")
    assert torch.equal(xtc_ds.freeze(wrapped)(**INPUTS).logits, expected)
    model.compile(backend="eager")
    assert torch.equal(xtc_ds.freeze(model)(**INPUTS).logits, expected)
    assert not torch.equal(model(**INPUTS).logits, expected)


def test_a_forward_bound_to_the_instance_moves_to_the_copy() -> None:
    model = compressed()
    expected = xtc_ds.freeze(model)(**INPUTS).logits
    model.bert.forward = model.bert.forward
    frozen: Any = xtc_ds.freeze(model)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight.zero_()
    assert torch.equal(frozen(**INPUTS).logits, expected)


class Shared(nn.Module):
    """The same module in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = self.first
        self.last = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.second(self.first(x).relu()))
        return out


def test_a_module_in_two_places_comes_back_in_both(tmp_path: Path) -> None:
    model, x = Shared(), torch.randn(3, 8)
    xtc_ds.compress(model, ds_config(block(exclude=[], activation=None)))
    frozen = xtc_ds.freeze(model)
    xtc_ds.export_packed(frozen, tmp_path / "out")
    loaded: Any = xtc_ds.load_into(Shared(), tmp_path / "out")
    assert loaded.first is loaded.second
    assert isinstance(loaded.first, PackedLinear)
    assert torch.equal(loaded(x), frozen(x))


@pytest.mark.parametrize("activations_of_the_head", [False, True])
def test_a_head_tied_to_a_float_table_is_stored_once(activations_of_the_head: bool, tmp_path: Path) -> None:
    model, ids = gpt2_lm(), torch.tensor([[1, 2, 3]])
    compression = block(exclude=["wte|wpe|lm_head"], activation=8)
    if activations_of_the_head:
        compression["activation_quantization"]["different_groups"]["all"]["exclude"] = ["nothing"]
    plan = xtc_ds.compress(model, ds_config(compression))
    frozen: Any = xtc_ds.freeze(model)
    assert xtc_ds.export_packed(frozen, tmp_path / "out").tensor_bytes == plan.sizes.packed
    for loaded in (xtc_ds.load(tmp_path / "out"), xtc_ds.load_into(gpt2_lm(), tmp_path / "out")):
        assert torch.equal(loaded(ids).logits, frozen(ids).logits)
        assert loaded.lm_head.weight.data_ptr() == loaded.transformer.wte.weight.data_ptr()  # type: ignore[union-attr, operator]


def test_tied_layers_that_were_moved_are_still_stored_once(tmp_path: Path) -> None:
    model = gpt2_lm()
    plan = xtc_ds.compress(model, ds_config(block(exclude=["wpe"], shared={"granularity": "row"}, activation=None)))
    frozen = xtc_ds.freeze(model).to(torch.float64).to(torch.float32)
    assert xtc_ds.export_packed(frozen, tmp_path / "out").tensor_bytes == plan.sizes.packed


def test_the_generation_config_is_kept(tmp_path: Path) -> None:
    model = gpt2_lm()
    model.generation_config.max_new_tokens = 7
    xtc_ds.compress(model, ds_config(block(exclude=["wte|wpe|lm_head"])))
    xtc_ds.export_packed(model, tmp_path / "out")
    assert xtc_ds.load(tmp_path / "out").generation_config.max_new_tokens == 7  # type: ignore[union-attr]


def test_an_uncalibrated_static_range_is_not_shipped() -> None:
    with pytest.raises(ExportError, match=r"bert.encoder.layer.0.*static activation range has seen no input"):
        xtc_ds.freeze(compressed(activation_shared={"range_calibration": "static"}))


def test_static_ranges_take_the_planned_bytes(tmp_path: Path) -> None:
    model = tiny_model()
    plan = xtc_ds.compress(model, ds_config(block(activation_shared={"range_calibration": "static"})))
    model.train()(**batch())
    assert xtc_ds.export_packed(model, tmp_path / "out").tensor_bytes == plan.sizes.packed


def test_a_float_dtype_is_known_and_not_changed_later() -> None:
    model = compressed()
    with pytest.raises(ExportError, match="float_dtype: found 'fp16'; allowed: float32, float16, bfloat16"):
        xtc_ds.freeze(model, "fp16")
    frozen = xtc_ds.freeze(model, "bfloat16")
    assert xtc_ds.freeze(frozen) is frozen
    with pytest.raises(ExportError, match="is frozen for bfloat16"):
        xtc_ds.freeze(frozen, "float32")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_file_loads_in_16_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    model = compressed()
    xtc_ds.export_packed(model, tmp_path / "out")
    loaded: Any = xtc_ds.load(tmp_path / "out", dtype=dtype)
    assert loaded.bert.encoder.layer[0].output.dense.weight.dtype == torch.uint8
    expected = xtc_ds.freeze(model)(**INPUTS).logits
    assert torch.allclose(loaded(**INPUTS).logits.float(), expected, atol=0.05)


def test_relative_folders_and_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = compressed()
    monkeypatch.chdir(tmp_path)
    assert xtc_ds.export_packed(model, "out").folder == Path("out")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ExportError, match="is or holds the current folder"):
        xtc_ds.export_packed(model, ".")
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "README.md", "config.json", "here", "model.safetensors", "out",
    ]  # fmt: skip


@pytest.mark.parametrize("where", ["file/out", "x" * 300])
def test_an_impossible_folder_is_one_clear_error(where: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot write"):
        xtc_ds.export_packed(compressed(), tmp_path / where)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_without_its_tensors_is_one_clear_error(tmp_path: Path) -> None:
    xtc_ds.export_packed(compressed(), tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ExportError, match="cannot be read"):
        xtc_ds.load_into(tiny_model(), tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").unlink()
    for read in (xtc_ds.load, lambda folder: xtc_ds.load_into(tiny_model(), folder)):
        with pytest.raises(ExportError, match=r"has no model.safetensors"):
            read(tmp_path / "out")


def test_a_model_that_does_not_fit_the_file_is_left_alone(tmp_path: Path) -> None:
    xtc_ds.export_packed(compressed(), tmp_path / "out")
    other = tiny_model(layers=1)
    kinds = [type(module) for module in other.modules()]
    with pytest.raises(ExportError, match="which this model .* lacks"):
        xtc_ds.load_into(other, tmp_path / "out")
    assert [type(module) for module in other.modules()] == kinds


def test_a_model_filled_from_a_file_can_be_written_again(tmp_path: Path) -> None:
    first = xtc_ds.export_packed(compressed(), tmp_path / "one")
    again = xtc_ds.export_packed(xtc_ds.load_into(tiny_model(), tmp_path / "one"), tmp_path / "two")
    assert again.tensor_bytes == first.tensor_bytes
