"""What is pruned and what shrinks along; every misfit is a PlanError with its place and a remedy."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from tests.pruning.configs import all_prunings, pruning
from tests.pruning.masks import sparse_mask
from tests.tiny import ds_config, tiny_model
from xtc_ds.config import load_config
from xtc_ds.errors import PlanError
from xtc_ds.plan import CompressionPlan, plan_table, plan_to_dict
from xtc_ds.rewrite import compress, make_plan

HALF = {"dense_ratio": 0.5}
OUTPUT = r"layer\.\d+\.output\.dense"


def plan(model: nn.Module, *blocks: dict[str, Any]) -> CompressionPlan:
    merged = {key: value for block in blocks for key, value in block.items()}
    return make_plan(model, load_config(ds_config(merged))[1])


def refusal(model: nn.Module, *blocks: dict[str, Any]) -> str:
    with pytest.raises(PlanError) as caught:
        plan(model, *blocks)
    return str(caught.value)


def one(technique: str, modules: list[str], related: Any = None, shared: Any = None, **params: Any) -> dict[str, Any]:
    group: tuple[Any, ...] = (
        (modules, {**HALF, **params}) if related is None else (modules, {**HALF, **params}, related)
    )
    return pruning(technique, {"g": group}, **(shared or {}))


class Block(nn.Module):
    """Two matrices in a row; ``swapped`` registers them the other way round."""

    def __init__(self, swapped: bool = False, width: int = 6) -> None:
        super().__init__()
        up, down = nn.Linear(4, width), nn.Linear(width, 4)
        for name, module in [("down", down), ("up", up)] if swapped else [("up", up), ("down", down)]:
            setattr(self, name, module)


def convolutions(**changes: Any) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 8, 3),
            bn1=nn.BatchNorm2d(8),
            conv2=nn.Conv2d(8, 8, 3, **changes),
            bn2=nn.BatchNorm2d(8, affine=False),
            head=nn.Linear(8, 2),
        )
    )


def test_every_module_gets_its_rows() -> None:
    found = plan(tiny_model(layers=2), all_prunings())
    assert [row.module.removeprefix("bert.encoder.layer.") for row in found.sparse] == [
        "0.attention.self.query",
        "0.attention.self.value",
        "1.attention.self.query",
        "1.attention.self.value",
    ]
    learned, gradual = found.sparse[:2]
    assert (learned.method, learned.offset, learned.end, learned.stride) == ("topk", 1, 1, 1)
    assert (gradual.block_pattern, gradual.offset, gradual.end, gradual.stride) == ("4x1", 1, 5, 2)
    row, head = found.structured[1], found.structured[3]
    assert (row.module, row.units, row.kept) == ("bert.encoder.layer.1.intermediate.dense", 64, 32)
    assert [(r.module, r.side) for r in row.related] == [("bert.encoder.layer.1.output.dense", "in")]
    assert (head.units, head.kept, head.offset) == (2, 1, 0)
    parts = [f"bert.encoder.layer.1.attention.self.{part}" for part in ("query", "key", "value")]
    assert [(r.module, r.side) for r in head.related] == [(part, "out") for part in parts]


def test_rows_kept_are_rounded_up() -> None:
    rows = plan(tiny_model(layers=1), one("row_pruning", ["intermediate.dense"], dense_ratio=0.51)).structured
    assert (rows[0].kept, rows[0].related) == (33, ())


def test_channels_shrink_norms_and_readers() -> None:
    related = [["bn1", "conv2"], ["bn2", "head"]]
    rows = plan(convolutions(), one("channel_pruning", ["conv1", "conv2"], related)).structured
    assert [[(r.module, r.kind, r.side) for r in row.related] for row in rows] == [
        [("bn1", "BatchNorm2d", "features"), ("conv2", "Conv2d", "in")],
        [("bn2", "BatchNorm2d", "features"), ("head", "Linear", "in")],
    ]


def test_each_pattern_is_paired_with_its_own_related_modules() -> None:
    model = nn.ModuleDict({name: nn.ModuleList([Block(width=6), Block(width=6)]) for name in ("left", "right")})
    # In the old library the second pattern shrank with the masks of the first.
    block = one("row_pruning", [r"left\..*up", r"right\..*up"], [[r"left\..*down"], [r"right\..*down"]])
    pairs = {row.module: row.related[0].module for row in plan(model, block).structured}
    assert pairs == {f"{side}.{i}.up": f"{side}.{i}.down" for side in ("left", "right") for i in (0, 1)}


def test_pairs_share_most_of_their_names() -> None:
    model = nn.ModuleDict({"b": nn.ModuleDict({"2": Block(True), "1": Block()}), "z": nn.Identity()})
    model["x"] = nn.Module()
    pairs = {
        row.module: row.related[0].module for row in plan(model, one("row_pruning", ["up"], [["down"]])).structured
    }
    assert pairs == {"b.2.up": "b.2.down", "b.1.up": "b.1.down"}


def test_pairs_without_common_names_are_made_in_order() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.Linear(5, 3))
    block = one("row_pruning", [r"^[02]$"], [[r"^[23]$"]])
    assert {row.module: row.related[0].module for row in plan(model, block).structured} == {"0": "2", "2": "3"}


GROUP = "compression_training.{}.different_groups.g"
LAYER = "bert.encoder.layer.0"


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        (
            one("head_pruning", ["attention.output.dense"], shared={"num_heads": 5}),
            ["head_pruning.shared_parameters.num_heads", "5 heads do not divide the 32 inputs", "16"],
        ),
        (
            one("head_pruning", ["attention.output.dense"], num_heads=5),
            [GROUP.format("head_pruning") + ".params.num_heads", "5 heads"],
        ),
        (
            one("row_pruning", ["intermediate.dense"], [["output.dense"]]),
            [GROUP.format("row_pruning") + ".related_modules[0][0]", "matches 4 modules, but 2 modules are pruned"],
        ),
        (
            one("row_pruning", ["intermediate.dense"], [["outptu"]]),
            ["related_modules[0][0]", "'outptu' matches no module that could shrink"],
        ),
        (
            one("row_pruning", ["intermediate.dense"], [[r"attention\.output\.dense"]]),
            ["related_modules[0][0]", "has 32 inputs", "has 64 outputs", "leave related_modules out"],
        ),
        (
            one("head_pruning", ["attention.output.dense"], [["intermediate.dense"]], num_heads=2),
            ["related_modules[0][0]", "has 64 outputs", "has 32 inputs"],
        ),
        (
            one("row_pruning", ["attention.output.dense"], [[r"attention\.output\.dense"]]),
            ["is related to itself"],
        ),
        (
            one("row_pruning", ["intermediate.dense", "0.intermediate"], [[OUTPUT], [r"0\.output\.dense"]]),
            [GROUP.format("row_pruning") + ".modules[1]", "is found by modules[0] already"],
        ),
        (one("channel_pruning", ["query"]), [".modules", "is a Linear; this technique takes Conv2d"]),
        (one("row_pruning", ["word_embeddings"]), ["is an Embedding; this technique takes Linear, Conv1D"]),
        (one("sparse_pruning", ["word_embeddings"]), ["is an Embedding; this technique takes Linear, Conv1D, Conv2d"]),
        (one("sparse_pruning", ["qurey"]), [".modules[0]", "'qurey' matches no module"]),
        (
            one("sparse_pruning", ["query"], block_pattern="3x1"),
            [GROUP.format("sparse_pruning") + ".params.block_pattern", "'3x1' does not fit", "3 does not divide"],
        ),
        (
            one("sparse_pruning", ["query"], shared={"block_pattern": "3:6"}),
            ["compression_training.sparse_pruning.shared_parameters.block_pattern", "6 does not divide its 32 inputs"],
        ),
        (
            pruning("row_pruning", {"a": (["query"], HALF), "b": (["self"], HALF)}),
            ["different_groups.b.modules", "is in group 'a' already"],
        ),
    ],
)  # fmt: skip
def test_misfits_name_their_place(block: dict[str, Any], parts: list[str]) -> None:
    message = refusal(tiny_model(layers=2), block)
    for part in parts:
        assert part in message


def test_a_fused_matrix_cannot_shrink_by_heads() -> None:
    block = one("head_pruning", [r"attn\.c_proj"], [["c_attn"]], num_heads=2)
    assert "has 96 outputs, but" in refusal(tiny_model("gpt2", layers=1), block)
    assert plan(tiny_model("gpt2", layers=1), one("head_pruning", [r"attn\.c_proj"], num_heads=2)).structured


def test_an_optional_group_that_finds_nothing_shrinks_nothing() -> None:
    block = one("row_pruning", ["c_fc"], [["c_proj"]])
    block["row_pruning"]["different_groups"]["g"]["optional"] = True
    assert plan(tiny_model(layers=1), block).structured == ()
    message = refusal(tiny_model(layers=1), one("row_pruning", ["c_fc"], [["c_proj"]]))
    assert "'c_fc' matches no module" in message
    assert "c_proj" not in message


def test_grouped_convolutions_cannot_shrink() -> None:
    message = refusal(convolutions(groups=4), one("channel_pruning", ["conv1"], [["conv2"]]))
    assert "'conv2' is a grouped convolution" in message


def test_one_side_cannot_shrink_twice() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 2))
    groups = {"a": (["^0$"], HALF, [["^2$"]]), "b": (["^1$"], HALF, [["^2$"]])}
    assert "'2' would shrink on one side" in refusal(model, pruning("row_pruning", groups))


def test_scale_groups_that_a_cut_would_part_are_refused() -> None:
    quantized = {
        "weight_quantization": {
            "shared_parameters": {"enabled": True, "quantize_weight_in_forward": True, "quantize_groups": 128},
            "different_groups": {"w": {"params": {"start_bits": 8, "target_bits": 8}, "modules": ["intermediate"]}},
        }
    }
    block = one("row_pruning", ["intermediate.dense"], [[OUTPUT]])
    assert "quantize_groups" in refusal(tiny_model(layers=1), block, quantized)


@pytest.mark.parametrize("method", ["l1", "topk"])
def test_tied_weights_are_pruned_alike_or_not_at_all(method: str) -> None:
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    model["b"].weight = model["a"].weight
    message = refusal(model, one("sparse_pruning", ["^a$"], method=method))
    assert "a and b share one weight" in message
    assert "compression_training.sparse_pruning" in message
    both = one("sparse_pruning", ["*"], method=method)
    if method == "l1":
        assert len(plan(model, both).sparse) == 2
    else:
        assert "a and b share one weight" in refusal(model, both)


def test_a_tied_module_cannot_shrink_along() -> None:
    model = nn.ModuleDict({"up": nn.Linear(4, 4), "down": nn.Linear(4, 4), "other": nn.Linear(4, 4)})
    model["other"].weight = model["down"].weight
    message = refusal(model, one("row_pruning", ["up"], [["down"]]))
    assert "down and other share one weight" in message


def test_a_refused_model_is_left_as_it_was() -> None:
    model = tiny_model(layers=1)
    before = {name: type(module) for name, module in model.named_modules()}
    bad = {**one("sparse_pruning", ["query"]), **one("head_pruning", ["output"], num_heads=7)}
    with pytest.raises(PlanError):
        compress(model, ds_config(bad))
    assert {name: type(module) for name, module in model.named_modules()} == before
    assert not any("prun" in name for name in model.state_dict())


def test_rounding_up_to_all_units_is_remarked() -> None:
    block = one("head_pruning", ["attention.output.dense"], num_heads=2, dense_ratio=0.9)
    warnings = [str(warning) for warning in plan(tiny_model(layers=1), block).warnings]
    assert any("rounds up to all of them" in warning for warning in warnings)


def test_dropped_layers_are_not_pruned() -> None:
    reduction = {"layer_reduction": {"enabled": True, "teacher_layer": [1, 3]}}
    model = tiny_model(layers=4)
    wanted = model.bert.encoder.layer[3].attention.self.query.weight.detach().abs()
    compress(model, ds_config({**reduction, **one("sparse_pruning", ["query"])}))
    layers = model.bert.encoder.layer
    assert len(layers) == 2
    # The mask is of the weights that the layer has after the reduction.
    mask = sparse_mask(layers[1].attention.self.query)
    assert float(wanted[mask].min()) >= float(wanted[~mask].max())


def test_a_plan_of_a_meta_model_is_the_same() -> None:
    real = tiny_model(layers=1)
    block = all_prunings()
    rows = plan(real, block)
    with torch.device("meta"):
        shadow = tiny_model(layers=1)
    assert plan(shadow, block).structured == rows.structured
    assert plan(shadow, block).sparse == rows.sparse


def test_the_report_shows_prunings() -> None:
    from rich.console import Console

    found = plan(tiny_model(layers=2), all_prunings())
    entries = plan_to_dict(found)["pruning"]
    assert len(entries) == 8
    assert entries[0]["technique"] == "sparse_pruning"
    assert entries[0]["block_pattern"] is None
    heads = entries[-1]
    assert (heads["technique"], heads["units"], heads["kept"]) == ("head_pruning", 2, 1)
    assert heads["related_modules"][0]["side"] == "out"
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(plan_table(found))
    text = console.export_text()
    for part in ("32 of 64 rows", "1 of 2 heads", "0.25 of 4x1", "1, full at 5", "bert.encoder.layer.*.output.dense"):
        assert part in text
