"""Plans of shipped configs, and every refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.tiny import ARCHITECTURES, block, ds_config, tiny_model
from xtc_ds.config import load_config
from xtc_ds.errors import PlanError
from xtc_ds.plan import CompressionPlan, plan_table, plan_to_dict
from xtc_ds.rewrite import make_plan

CONFIGS = sorted((Path(__file__).parents[2] / "json_configs").glob("*.json"))


def plan(model: nn.Module, **options: Any) -> CompressionPlan:
    return make_plan(model, load_config(ds_config(block(**options)))[1])


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("config", [c for c in CONFIGS if "paper" not in c.stem], ids=lambda path: path.stem)
def test_shipped_configs_plan_on_every_architecture(config: Path, kind: str) -> None:
    made = make_plan(tiny_model(kind), load_config(config)[1])
    assert made.sizes.packed < made.sizes.original
    assert json.loads(json.dumps(plan_to_dict(made)))["bytes"]["packed"] == made.sizes.packed


def bert_base() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    with torch.device("meta"):
        return BertForSequenceClassification(BertConfig())


def test_the_papers_config_plans_on_bert_base_with_the_papers_layers() -> None:
    made = make_plan(bert_base(), load_config(next(c for c in CONFIGS if "paper" in c.stem))[1])
    assert made.reduction is not None
    assert made.reduction.kept == (2, 4, 6, 8, 10)
    # The reference arithmetic: 11.09 MiB, 37.7 times smaller.
    assert made.sizes.packed / 2**20 == pytest.approx(11.09, abs=0.01)
    assert made.sizes.ratio == pytest.approx(37.7, abs=0.05)


def test_a_plan_changes_nothing() -> None:
    model = tiny_model()
    before = {name: (id(module), type(module)) for name, module in model.named_modules()}
    plan(model, reduction={"keep_number_layer": 2})
    assert {name: (id(module), type(module)) for name, module in model.named_modules()} == before


def test_reduced_layers_are_renumbered_in_the_plan() -> None:
    names = [row.module for row in plan(tiny_model(), reduction={"keep_number_layer": 2}).weights]
    assert any(".layer.1." in name for name in names)
    assert not any(".layer.2." in name for name in names)


def test_conv1d_rows_are_outputs() -> None:
    row = next(row for row in plan(tiny_model("gpt2")).weights if row.module.endswith("attn.c_attn"))
    assert (row.kind, row.shape) == ("Conv1D", (96, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modules": ["attention.selfie"]}, r"modules\[0\]: 'attention.selfie' matches no module; nearest modules: "),
        ({"modules": ["LayerNorm"]}, r"matches nothing that can be compressed, only 'bert.embeddings.LayerNorm'"),
        ({"modules": ["^classifier$"]}, r"matches only excluded modules: classifier"),
        ({"shared": {"quantize_groups": 7}}, r"quantize_groups: 'bert.encoder.*7 groups do not divide the 1024"),
        ({"reduction": {"keep_number_layer": 9}}, r"keep_number_layer: cannot keep 9 of the model's 4 layers"),
        (
            {"reduction": {"teacher_layer": [1, 4]}},
            r"teacher_layer: layer 4 does not exist; the model has layers 0 to 3",
        ),
        (
            {"reduction": {"keep_number_layer": 2, "other_module_name": ["bert.puler"]}},
            r"other_module_name\[0\]: the model has no module 'bert.puler'; nearest: bert.pooler",
        ),
    ],
)
def test_what_does_not_fit_the_model_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(tiny_model(), activation=None, **options)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(PlanError) as caught:
        plan(tiny_model(), modules=["nothing_a", "nothing_b"])
    assert len(caught.value.problems) == 4  # both patterns, in weights and in activations


def test_a_module_in_two_groups_is_refused() -> None:
    compression = block(activation=None, modules=["query", "key"])
    groups = compression["weight_quantization"]["different_groups"]
    groups["more"] = {"params": {"start_bits": 8, "target_bits": 8}, "modules": ["query"]}
    with pytest.raises(PlanError, match="is in group 'all' already; exclude it from one of the two"):
        make_plan(tiny_model(), load_config(ds_config(compression))[1])


def test_an_optional_group_may_match_nothing() -> None:
    compression = block(activation=None)
    compression["weight_quantization"]["different_groups"]["more"] = {
        "params": {"start_bits": 8, "target_bits": 8},
        "modules": ["no_such_table"],
        "optional": True,
    }
    make_plan(tiny_model(), load_config(ds_config(compression))[1])


def test_an_exclusion_that_excludes_nothing_is_a_warning() -> None:
    made = plan(tiny_model(), activation=None, exclude=["wpe_typo"], modules=["query"])
    assert "exclude[0]: 'wpe_typo' excludes nothing" in str(made.warnings[-1])


def test_activations_of_an_embedding_are_refused() -> None:
    compression = block()
    compression["activation_quantization"]["different_groups"]["all"] |= {"modules": ["word_emb"], "exclude": []}
    with pytest.raises(PlanError, match=r"'bert.embeddings.word_embeddings' is an Embedding; this technique takes"):
        make_plan(tiny_model(), load_config(ds_config(compression))[1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)
        self.custom = type("LoraLinear", (nn.Linear,), {})(8, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"^attention\.out_proj", "nn.MultiheadAttention uses its weight directly"),
        ("custom", "is a LoraLinear, whose own forward would be lost"),
        (r"encoder\.linear1", "bypassed in evaluation by the fast path of nn.TransformerEncoderLayer"),
    ],
)
def test_layers_whose_forward_is_not_reached_are_refused(pattern: str, reason: str) -> None:
    with pytest.raises(PlanError, match=reason):
        plan(Attention(), activation=None, modules=[pattern], exclude=[])


def test_tied_weights_must_be_treated_alike() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=50, n_positions=16))
    with pytest.raises(PlanError, match=r"transformer.wte and lm_head share one weight but are not quantized alike"):
        plan(model, activation=None, modules=["wte"], exclude=[])
    shared = {"granularity": "row"}
    made = plan(model, activation=None, modules=["wte", "lm_head"], exclude=[], shared=shared)
    assert len(made.weights) == 2


def test_the_table_names_every_kind_of_module_once() -> None:
    from rich.console import Console

    console = Console(width=150, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(plan_table(plan(tiny_model(), reduction={"keep_number_layer": 2})))
    text = console.export_text()
    assert text.count("attention.self.query (x2)") == 1
    assert "2 of 4 layers kept (1, 3)" in text
    assert "x smaller" in text


def test_a_shallow_student_takes_a_deeper_teachers_layers() -> None:
    config = load_config(ds_config(block(reduction={"keep_number_layer": 2})))[1]
    made = make_plan(tiny_model(layers=2), config, teacher=tiny_model(layers=4))
    assert made.reduction is not None
    assert (made.reduction.cut, made.reduction.kept) == (False, (1, 3))
    with pytest.raises(PlanError, match="the model has 3 layers, the teacher 4, and 2 are to be kept"):
        make_plan(tiny_model(layers=3), config, teacher=tiny_model(layers=4))
