"""Whatever is given as the block: it parses or raises ConfigError, nothing else."""

from __future__ import annotations

import copy
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from xtc_ds.config import CompressionConfig, check_block, parse_block, schema
from xtc_ds.config.schema import resolve, walk_properties
from xtc_ds.errors import ConfigError

KEYS = sorted({part for path, _ in walk_properties() for part in path.split(".")})
VALUES = ["*", "attention", "symmetric", "row", "ternary", "static", "self", "float16", "[", "\ud800", "a\nb"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, 1.58, 2, 4, 8, 16, 10**400, -(2**63)]),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(VALUES),
)
JSON_LIKE = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=4)), inner, max_size=4),
        st.dictionaries(st.one_of(st.integers(), st.none(), st.sampled_from(KEYS)), inner, max_size=2),
    ),
    max_leaves=12,
)


def _shape(node: Any) -> st.SearchStrategy[Any]:
    """Blocks of nearly the right shape: real keys, with values that may or may not fit."""
    node = resolve(node)
    if "properties" in node:
        inner = {key: _shape(child) for key, child in node["properties"].items()}
        required = {key: inner[key] for key in node.get("required", ())}
        optional = {key: value for key, value in inner.items() if key not in required}
        return st.fixed_dictionaries(required, optional=optional)
    if isinstance(node.get("additionalProperties"), dict):
        return st.dictionaries(st.sampled_from(["a", "b.c"]), _shape(node["additionalProperties"]), max_size=2)
    fitting = [*node.get("enum", []), *node.get("examples", [])]
    return st.one_of(st.sampled_from(fitting), st.sampled_from(fitting), SCALARS) if fitting else SCALARS


def _parses_or_refuses(block: Any) -> None:
    errors, _ = check_block(block)
    try:
        config = parse_block(block)
    except ConfigError as error:
        assert error.problems == tuple(errors)
        assert errors
        assert len(str(error).splitlines()) == len(errors)
    else:
        assert not errors
        assert isinstance(config, CompressionConfig)
        assert parse_block(config.to_dict()) == config


@settings(max_examples=200, deadline=None)
@given(JSON_LIKE)
def test_any_value(block: Any) -> None:
    _parses_or_refuses(block)


@settings(max_examples=200, deadline=None)
@given(st.deferred(lambda: _shape(schema())))
def test_any_nearly_right_block(block: Any) -> None:
    _parses_or_refuses(block)


@settings(max_examples=50, deadline=None)
@given(JSON_LIKE)
def test_the_given_block_is_not_changed(block: Any) -> None:
    before = copy.deepcopy(block)
    check_block(block)
    assert repr(block) == repr(before)


def test_a_block_that_contains_itself_is_refused() -> None:
    block: dict[str, Any] = {"kd": {"enabled": True}}
    block["kd"]["layer_map"] = block
    _parses_or_refuses(block)


def test_values_that_are_not_json_are_refused_at_their_place() -> None:
    block = {"kd": {"enabled": True, "teacher": object(), "temperature": math.nan, "layer_map": {1, 2}}}
    errors, _ = check_block(block)
    assert [problem.path.rpartition(".")[2] for problem in errors] == ["teacher", "temperature", "layer_map"]


def test_an_integer_too_long_to_print_is_refused() -> None:
    errors, _ = check_block({"kd": {"enabled": True, "temperature": 10**5000}, 10**5000: 1})
    assert [problem.path for problem in errors] == [
        "compression_training.kd.temperature",
        'compression_training["<int>"]',
    ]
