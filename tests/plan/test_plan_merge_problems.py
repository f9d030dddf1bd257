"""One mistake in the config is one line of the error, however many modules it concerns."""

from __future__ import annotations

from typing import Any

import pytest

import xtc_ds
from tests.checkpoint.pruned_models import pruning
from tests.tiny import block, ds_config, tiny_model
from xtc_ds.errors import PlanError, Problem
from xtc_ds.plan.merge_problems import merge_problems

OUTPUT = r"layer\.\d+\.output\.dense"


def problems(compression: dict[str, Any], layers: int = 6) -> list[str]:
    with pytest.raises(PlanError) as error:
        xtc_ds.compress(tiny_model(layers=layers), ds_config(compression))
    return [str(problem) for problem in error.value.problems]


def test_scale_groups_that_a_cut_would_part() -> None:
    both = block(modules=[f"intermediate|{OUTPUT}"], exclude=[], shared={"quantize_groups": 128}, activation=None)
    (line,) = problems({**both, **pruning("row", 0.5, "intermediate", [OUTPUT])})
    names = "'bert.encoder.layer.0.intermediate.dense' (and 11 more: 'bert.encoder.layer.0.output.dense', 'bert."
    path = "compression_training.weight_quantization.different_groups.all.params.quantize_groups"
    assert line.startswith(f"{path}: {names}")
    assert "128 scale groups do not each hold a whole number of the 64 rows" in line
    assert line.count("; set a divisor of the rows") == 1


@pytest.mark.parametrize(
    "compression",
    [
        block(modules=["query"], shared={"quantize_groups": 7}, activation=None),
        pruning("sparse", 0.5, "query", method="snip_momentum", block_pattern="3x1"),
        pruning("head", 0.5, "query", num_heads=5),
        pruning("channel", 0.5, "query"),
    ],
    ids=["groups", "pattern", "heads", "kind"],
)
def test_what_every_layer_has_in_common(compression: dict[str, Any]) -> None:
    assert len(problems(compression, layers=1)) == 1
    (line,) = problems(compression)
    assert (
        "'bert.encoder.layer.0.attention.self.query' (and 5 more: 'bert.encoder.layer.1.attention.self.query'" in line
    )


def test_one_module_in_two_groups_each() -> None:
    compression = block(modules=["query"], activation=None)
    groups = compression["weight_quantization"]["different_groups"]
    groups["again"] = groups["all"]
    (line,) = problems(compression)
    assert "(and 5 more: " in line
    assert line.endswith("is in group 'all' already; exclude it from one of the two")


def test_what_differs_stays_apart() -> None:
    names = ["a", "b", "c", "d", "e"]
    found = [Problem("x", f"'{name}' is bad") for name in names]
    found += [Problem("x", "'b' is worse"), Problem("y", "'a' is bad")]
    assert [str(problem) for problem in merge_problems(found, names)] == [
        "x: 'a' (and 4 more: 'b', 'c', ...) is bad",
        "x: 'b' is worse",
        "y: 'a' is bad",
    ]
    assert [str(p) for p in merge_problems(found[:2], names)] == ["x: 'a' (and 1 more: 'b') is bad"]
    # What is quoted first is a pattern here, and no module.
    twins = [Problem("x", "'zz' matches nothing"), Problem("x", "'yy' matches nothing")]
    assert merge_problems(twins, names) == twins
    assert merge_problems([found[0], found[0]], names) == [found[0]]
