"""Pruned transformers through freeze, file and the three ways of loading."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import xtc_ds
from tests.checkpoint.pruned_models import ATTENTION, FEED_FORWARD, config, pruning, transformer_pruning
from tests.pruning.masks import kept_units, pruning_rows, sparse_mask
from tests.tiny import batch, tiny_model
from xtc_ds.errors import ExportError, PlanError
from xtc_ds.freezing import is_frozen
from xtc_ds.layers import compressed_layers, set_step

INPUTS = batch(labels=False)
# The defaults of tests.tiny.block.
W1A8: dict[str, Any] = {}


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    result: torch.Tensor = model(**INPUTS).logits
    return result


def plain(kind: str = "bert", heads: int = 4) -> Any:
    """Two layers of four heads."""
    if kind != "distilbert":
        return tiny_model(kind, layers=2, **({} if kind == "gpt2" else {"num_attention_heads": heads})).eval()
    import transformers

    base = tiny_model(kind, layers=2).config
    base.n_heads = heads
    torch.manual_seed(1)
    return transformers.AutoModelForSequenceClassification.from_config(base).eval()


def compressed(*blocks: Any, kind: str = "bert", quantized: dict[str, Any] | None = None) -> tuple[Any, Any]:
    model = plain(kind)
    plan = xtc_ds.compress(model, config(*blocks, quantized=quantized))
    set_step(model, 1)
    return model, plan


def round_trip(model: Any, plan: Any, folder: Path) -> tuple[Any, Any]:
    """(frozen, loaded): equal logits, planned bytes."""
    frozen = xtc_ds.freeze(model)
    report = xtc_ds.export_packed(frozen, folder)
    loaded = xtc_ds.load(folder)
    assert torch.equal(logits(loaded), logits(frozen))
    assert report.tensor_bytes == plan.sizes.packed
    return frozen, loaded


@pytest.mark.parametrize("quantized", [W1A8, None], ids=["W1A8", "float"])
@pytest.mark.parametrize("kind", ATTENTION)
def test_rows_and_heads_really_go(kind: str, quantized: dict[str, Any] | None, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model, plan = compressed(*transformer_pruning(kind), kind=kind, quantized=quantized)
    frozen, loaded = round_trip(model, plan, tmp_path / "out")
    assert torch.allclose(logits(frozen), logits(model), atol=1e-5 if quantized is None else 1e-2)
    into = xtc_ds.load_into(plain(kind), tmp_path / "out")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(into), logits(frozen))
    assert torch.equal(logits(again), logits(frozen))
    sizes = {
        name: (getattr(m, "out_features", None), getattr(m, "in_features", None)) for name, m in loaded.named_modules()
    }
    expected = {FEED_FORWARD[kind][0]: (48, 32), FEED_FORWARD[kind][1]: (32, 48), ATTENTION[kind][0]: (32, 16)}
    expected |= dict.fromkeys(ATTENTION[kind][1:], (16, 32))
    for pattern, size in expected.items():
        found = [value for name, value in sizes.items() if re.search(pattern, name)]
        assert found == [size, size], pattern
    counts = [
        vars(m).get("num_attention_heads", vars(m).get("n_heads"))
        for n, m in loaded.named_modules()
        if re.search(r"self$|attention$", n)
    ]
    assert set(counts) - {None} == {2}


def test_a_related_module_that_is_not_compressed_shrinks_too(tmp_path: Path) -> None:
    model, plan = compressed(
        *transformer_pruning("bert"),
        quantized={"modules": ["intermediate"], "exclude": [], "activation": None, "export": "float32"},
    )
    frozen, loaded = round_trip(model, plan, tmp_path / "out")
    assert type(loaded.bert.encoder.layer[0].output.dense) is torch.nn.Linear
    assert loaded.bert.encoder.layer[0].output.dense.weight.shape == (32, 48)
    assert torch.allclose(logits(frozen), logits(model), atol=1e-5)


@pytest.mark.parametrize(
    "quantized",
    [
        None,
        {"bits": 1},
        {"bits": 2},
        {"bits": 2, "params": {"format": "integer"}},
        {"bits": 3, "shared": {"quantize_groups": 16}},
        {"bits": 4, "shared": {"quantization_type": "asymmetric", "granularity": "row"}},
        {"bits": 2, "shared": {"quantization_type": "asymmetric"}, "activation": None},
        {"bits": 8, "export": "bfloat16", "activation": None},
        {"bits": 1, "modules": ["query"], "activation": None},
    ],
    ids=str,
)
def test_every_format_takes_zeros_exactly(quantized: dict[str, Any] | None, tmp_path: Path) -> None:
    blocks = pruning("sparse", 0.3, "encoder|pooler"), *transformer_pruning("bert", related=False)
    model, plan = compressed(*blocks, quantized=quantized)
    frozen, _ = round_trip(model, plan, tmp_path / "out")
    coarse = (quantized or {}).get("export") == "bfloat16"
    assert torch.allclose(logits(frozen), logits(model), atol=0.05 if coarse else 1e-2)
    weight = frozen.bert.encoder.layer[0].intermediate.dense
    value = weight.dense_weight() if hasattr(weight, "spec") else weight.weight
    layer = model.bert.encoder.layer[0].intermediate.dense
    mask = sparse_mask(layer) & kept_units(layer, pruning_rows(layer)[1]).view(-1, 1)
    assert bool((value[~mask] == 0).all())
    assert bool((frozen.bert.encoder.layer[0].intermediate.dense.bias[~mask.any(1)] == 0).all())


def test_masks_and_scores_are_not_in_the_file(tmp_path: Path) -> None:
    model, _ = compressed(
        pruning("sparse", 0.5, "pooler", method="topk"), *transformer_pruning("bert", related=False), quantized=W1A8
    )
    xtc_ds.export_packed(model, tmp_path / "out")
    names = load_file(tmp_path / "out" / "model.safetensors")
    assert [name for name in names if "mask" in name.replace("weight_mask", "") or "scores" in name] == []
    assert any("mask" in name or "scores" in name for name in model.state_dict())


def test_a_gradual_mask_is_shipped_without_its_scores(tmp_path: Path) -> None:
    params = {"method": "snip_momentum", "block_pattern": "2:4"}
    block = pruning("sparse", 0.5, "dense", **params)
    block["sparse_pruning"]["shared_parameters"] |= {"schedule_offset_end": 2, "block_pattern": "2:4"}
    del block["sparse_pruning"]["different_groups"]["all"]["params"]["block_pattern"]
    for quantized in (None, {"bits": 4, "export": "float32"}):
        model, plan = compressed(block, quantized=quantized)
        layer = model.bert.pooler.dense
        layer.snip_momentum.scores.fill_(1e30)  # no 16-bit number, and not to be stored as one
        for _, each in compressed_layers(model):
            if pruning_rows(each):
                each.sparse_pruning_mask[:, ::2] = 0
        set_step(model, 2)
        frozen, _ = round_trip(model, plan, tmp_path / str(quantized is None))
        assert xtc_ds.freeze(model, "float16") is not None
        assert [name for name, _ in frozen.named_modules() if "snip" in name] == []
        assert torch.allclose(logits(frozen), logits(model), atol=1e-5)


def test_the_rows_of_gpt2s_transposed_layers_go(tmp_path: Path) -> None:
    blocks = pruning("row", 0.25, "c_fc", ["mlp.c_proj"]), pruning("sparse", 0.5, "c_fc|mlp.c_proj")
    for index, quantized in enumerate(
        (None, {"bits": 4, "shared": {"granularity": "row"}, "export": "float32"}, {"activation": None})
    ):
        model, plan = compressed(*blocks, kind="gpt2", quantized=quantized)
        frozen, loaded = round_trip(model, plan, tmp_path / str(index))
        assert torch.allclose(logits(frozen), logits(model), atol=1e-3)
        assert loaded.transformer.h[0].mlp.c_fc.bias.shape == (32,)
        assert torch.equal(logits(xtc_ds.load_into(plain("gpt2"), tmp_path / str(index))), logits(frozen))


def test_scale_groups_of_whole_rows_become_one_per_row(tmp_path: Path) -> None:
    blocks = pruning("row", 0.5, "intermediate", ["layer.\\d+.output.dense"])
    options = {"bits": 4, "modules": ["intermediate|layer.\\d+.output.dense"], "exclude": []}
    model, plan = compressed(blocks, quantized={**options, "shared": {"quantize_groups": 8}, "export": "float32"})
    frozen, _ = round_trip(model, plan, tmp_path / "out")
    dense = frozen.bert.encoder.layer[0].intermediate.dense
    assert dense.spec.grouping.kind == "row"
    assert len(dense.weight_scale.unique()) <= 8
    assert torch.allclose(logits(frozen), logits(model), atol=1e-5)
    with pytest.raises(PlanError, match=r"params.quantize_groups: 'bert.*output.dense', .*: 128 scale groups do not"):
        compressed(blocks, quantized={**options, "shared": {"quantize_groups": 128}})


def test_a_side_that_two_rules_would_cut_is_refused() -> None:
    rows = pruning("row", 0.5, "intermediate", ["layer.\\d+.output.dense"])
    heads = pruning("head", 0.5, "layer.\\d+.output.dense", ["intermediate"], num_heads=4)
    with pytest.raises(PlanError, match="'bert.encoder.layer.0.output.dense'\\) would shrink on one side along with"):
        compressed(rows, heads)


def test_a_pruned_model_can_be_saved_again_and_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    model, _ = compressed(*transformer_pruning("bert"), quantized=W1A8)
    for name in ("one", "two"):
        xtc_ds.export_packed(model, tmp_path / name)
    loaded: Any = xtc_ds.load(tmp_path / "one")
    assert is_frozen(loaded)
    assert xtc_ds.freeze(loaded) is loaded
    loaded.save_pretrained(tmp_path / "three")
    xtc_ds.export_packed(xtc_ds.load(tmp_path / "three"), tmp_path / "four")
    first = (tmp_path / "one" / "model.safetensors").read_bytes()
    assert (tmp_path / "two" / "model.safetensors").read_bytes() == first
    assert (tmp_path / "four" / "model.safetensors").read_bytes() == first
    assert torch.equal(logits(xtc_ds.load(tmp_path / "three")), logits(loaded))


def test_a_model_that_is_pruned_only_is_frozen_and_loads(tmp_path: Path) -> None:
    model, plan = compressed(*transformer_pruning("bert"))
    frozen, loaded = round_trip(model, plan, tmp_path / "out")
    assert is_frozen(frozen)
    assert is_frozen(loaded)
    assert xtc_ds.freeze(frozen) is frozen
    assert type(frozen.bert.encoder.layer[0].intermediate.dense) is torch.nn.Linear


def test_files_without_pruning_stay_version_1(tmp_path: Path) -> None:
    for blocks, version in (((), 1), (transformer_pruning("bert"), 2)):
        model, _ = compressed(*blocks, quantized=W1A8)
        xtc_ds.export_packed(model, tmp_path / "out")
        content = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
        assert content["format_version"] == version
        assert ("pruned" in content) == bool(blocks)


class TestDamage:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        model, _ = compressed(*transformer_pruning("bert"), quantized=W1A8)
        xtc_ds.export_packed(model, tmp_path / "out")
        return tmp_path / "out"

    def edit(self, folder: Path, change: Any) -> None:
        content = json.loads((folder / "config.json").read_text())
        change(content["quantization_config"]["pruned"])
        (folder / "config.json").write_text(json.dumps(content))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda p: p["layers"][0].update(after=[99, 32]), "pruned: not understood"),
            (lambda p: p["layers"][0].update(after="x"), "pruned: not understood"),
            (lambda p: p["attributes"][0].update(values={"forward": 1}), "pruned: not understood: .*forward"),
            (lambda p: p.pop("layers"), "pruned: not understood: KeyError"),
            (lambda p: p["layers"][0].update(before=[64, 64]), "was pruned from"),
            (lambda p: p["layers"][0].update(modules=["bert.nowhere"]), "this model .* has none"),
            (lambda p: p["attributes"][0].update(modules=["bert.nowhere"]), "'bert.nowhere', which this one lacks"),
        ],
    )
    def test_a_damaged_config_is_one_clear_error(self, folder: Path, change: Any, message: str) -> None:
        self.edit(folder, change)
        for read in (xtc_ds.load, lambda where: xtc_ds.load_into(plain(), where)):
            with pytest.raises(ExportError, match=message):
                read(folder)

    def test_another_model_is_refused(self, folder: Path) -> None:
        with pytest.raises(ExportError, match=r"of shape .*; the model's is"):
            xtc_ds.load_into(tiny_model(layers=2, intermediate_size=48, num_attention_heads=4), folder)
