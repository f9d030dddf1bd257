"""The rows of a distillation in the plan, and what is refused there."""

from __future__ import annotations

from typing import Any

import pytest
from distillation_models import tiny_model
from rich.console import Console
from torch import nn

import xtc_ds
from tests.tiny import block
from xtc_ds.errors import ConfigError, DistillationError, PlanError


def plan(model: nn.Module, at_hand: nn.Module | None = None, **kd: Any) -> xtc_ds.CompressionPlan:
    parsed = xtc_ds.parse_block(block(reduction={"keep_number_layer": 2}, kd={"temperature": 1.0, **kd}))
    return xtc_ds.make_plan(model, parsed, at_hand)


def table(made: xtc_ds.CompressionPlan) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(xtc_ds.plan_table(made))
    return console.export_text()


def test_a_row_for_each_loss_says_which_layer_learns_from_which() -> None:
    made = plan(tiny_model("bert", layers=4), teacher="self", temperature=2.0, hard_label_weight=0.5, logits_weight=0.1)
    stack = "bert.encoder.layer"
    common = {"teacher": "self", "stack": stack, "teacher_stack": stack, "outputs": []}
    none = {"teacher": "self", "stack": None, "teacher_stack": None, "hidden_pairs": [], "attention_pairs": []}
    hidden, attention = [[0, 0], [1, 2], [2, 4]], [[0, 1], [1, 3]]
    assert xtc_ds.plan_to_dict(made)["distillation"] == [
        {"loss": "logits", "weight": 0.1, "options": {"temperature": 2.0}, **none, "outputs": ["logits"]},
        {"loss": "hidden", "weight": 1.0, "options": {}, **common, "hidden_pairs": hidden, "attention_pairs": []},
        {
            "loss": "attention",
            "weight": 1.0,
            "options": {"attention_type": "scores"},
            **common,
            "hidden_pairs": [],
            "attention_pairs": attention,
        },
        {"loss": "hard", "weight": 0.5, "options": {}, **none, "outputs": []},
    ]
    shown = table(made)
    for line in (
        "Distillation from self",
        "hidden states 0 <- 0, 1 <- 2, 2 <- 4",
        "attention of layers 0 <- 1, 1 <- 3",
    ):
        assert line in shown


def test_without_distillation_nothing_is_told_of_it() -> None:
    made = xtc_ds.make_plan(tiny_model("bert"), xtc_ds.parse_block(block()))
    assert "distillation" not in xtc_ds.plan_to_dict(made)
    assert "Distillation" not in table(made)


def test_a_teacher_at_hand_decides_the_pairs() -> None:
    teacher = tiny_model("bert", layers=6)
    made = xtc_ds.make_plan(tiny_model("bert"), xtc_ds.parse_block(block(kd={"hidden_weight": 0.0})), teacher)
    _, row = xtc_ds.plan_to_dict(made)["distillation"]
    assert (row["teacher"], row["attention_pairs"]) == ("BertForSequenceClassification", [[0, 2], [1, 5]])


def test_a_teacher_that_is_not_known_yet_leaves_the_pairs_open() -> None:
    made = xtc_ds.make_plan(tiny_model("bert"), xtc_ds.parse_block(block(kd={"teacher": "some/model"})))
    logits, hidden, _ = xtc_ds.plan_to_dict(made)["distillation"]
    assert logits["outputs"] == ["logits"]
    assert (hidden["teacher"], hidden["hidden_pairs"], hidden["stack"]) == ("some/model", None, "bert.encoder.layer")
    assert "the pairs of layers depend on the teacher's depth" in table(made)


def test_all_that_can_be_refused_is_refused_by_the_plan() -> None:
    model = tiny_model("bert", layers=4)
    with pytest.raises(ConfigError, match=r"kd.layer_map: must name one teacher layer for each of the student's 2"):
        plan(model, tiny_model("bert", layers=4), layer_map=[0, 1, 2])
    with pytest.raises(ConfigError, match=r"kd.attention_type: 'scores' needs equal numbers"):
        plan(model, tiny_model("bert", layers=4, heads=2))
    with pytest.raises(PlanError, match=r"kd.module_name_prefix: 'bert.layers' is not a list of layers"):
        plan(model, tiny_model("bert", layers=4), module_name_prefix="bert.layers")
    sharing = tiny_model("bert", layers=4)
    sharing.bert.embeddings = model.bert.embeddings
    with pytest.raises(DistillationError, match="share the parameter"):
        plan(model, sharing)
    assert model.config._attn_implementation == "sdpa"


def test_without_a_teacher_it_is_a_warning_because_nothing_is_distilled() -> None:
    made = plan(tiny_model("bert", layers=4), module_name_prefix="bert.layers")
    assert "'bert.layers' is not a list of layers" in str(made.warnings[-1])
    assert "distillation" not in xtc_ds.plan_to_dict(made)
