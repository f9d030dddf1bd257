"""Finding layers and choosing which to keep."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.tiny import ARCHITECTURES, tiny_model
from xtc_ds.errors import PlanError
from xtc_ds.plan import even_layers, find_layer_stack

NAMES = {
    "bert": "bert.encoder.layer",
    "roberta": "roberta.encoder.layer",
    "distilbert": "distilbert.transformer.layer",
    "electra": "electra.encoder.layer",
    "gpt2": "transformer.h",
    "llama": "model.layers",
}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_stack_is_found(kind: str) -> None:
    stack = find_layer_stack(tiny_model(kind))
    assert (stack.name, len(stack.layers)) == (NAMES[kind], 4)


def test_a_wrong_prefix_names_the_nearest() -> None:
    with pytest.raises(PlanError, match=r"'bert.encoder.layers' is not a list of layers; nearest: bert.encoder.layer"):
        find_layer_stack(tiny_model(), "bert.encoder.layers")


def test_two_equal_stacks_are_ambiguous() -> None:
    block = lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU())  # noqa: E731
    model = nn.ModuleDict({side: nn.ModuleList(block() for _ in range(2)) for side in ("encoder", "decoder")})
    with pytest.raises(PlanError, match="encoder, decoder"):
        find_layer_stack(model)


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(PlanError, match="no list of equal layers"):
        find_layer_stack(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("depth", "keep", "expected"),
    [
        (12, 6, (1, 3, 5, 7, 9, 11)),
        (12, 5, (2, 4, 6, 8, 10)),
        (12, 4, (2, 5, 8, 11)),
        (6, 3, (1, 3, 5)),
        (12, 12, tuple(range(12))),
        (12, 8, (0, 2, 3, 5, 6, 8, 9, 11)),
        (1, 1, (0,)),
    ],
)
def test_kept_layers_are_those_of_the_papers(depth: int, keep: int, expected: tuple[int, ...]) -> None:
    assert even_layers(depth, keep) == expected


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 60).flatmap(lambda depth: st.tuples(st.just(depth), st.integers(1, depth))))
def test_kept_layers_are_distinct_sorted_and_evenly_spaced(pair: tuple[int, int]) -> None:
    depth, keep = pair
    kept = even_layers(depth, keep)
    assert len(kept) == keep == len(set(kept))
    assert list(kept) == sorted(kept)
    assert 0 <= kept[0] <= kept[-1] < depth
    gaps = {b - a for a, b in zip(kept, kept[1:], strict=False)}
    assert len(gaps) <= (1 if 2 * keep <= depth else 2) or gaps <= {1, 2, 3}


@pytest.mark.parametrize("keep", [0, -1, 13])
def test_impossible_counts_are_refused(keep: int) -> None:
    with pytest.raises(ValueError, match=f"cannot keep {keep} of 12"):
        even_layers(12, keep)
