"""schema.json as a contract: complete, a valid schema, and in step with the dataclasses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from xtc_ds import config as room
from xtc_ds.config.schema_file import walk_properties

PROPERTIES = dict(walk_properties())
GROUP = "different_groups.<group>"
DATACLASS_OF = {
    "layer_reduction": room.LayerReduction,
    f"weight_quantization.{GROUP}": room.WeightGroup,
    f"weight_quantization.{GROUP}.params": room.WeightGroup,
    "weight_quantization.shared_parameters": room.WeightGroup,
    f"activation_quantization.{GROUP}": room.ActivationGroup,
    f"activation_quantization.{GROUP}.params": room.ActivationGroup,
    "activation_quantization.shared_parameters": room.ActivationGroup,
    "weight_quantization.shared_parameters.fp16_mixed_quantize": room.WeightGroup,
    f"sparse_pruning.{GROUP}": room.SparseGroup,
    f"sparse_pruning.{GROUP}.params": room.SparseGroup,
    "sparse_pruning.shared_parameters": room.SparseGroup,
    f"row_pruning.{GROUP}": room.StructuredGroup,
    f"row_pruning.{GROUP}.params": room.StructuredGroup,
    "row_pruning.shared_parameters": room.StructuredGroup,
    "head_pruning.shared_parameters": room.StructuredGroup,
    f"channel_pruning.{GROUP}.params": room.StructuredGroup,
    "channel_pruning.shared_parameters": room.StructuredGroup,
    "kd": room.Distillation,
    "export": room.Export,
}
NOT_FIELDS = {"name", "path"}
# Defaults that the dataclass cannot have, since they depend on the technique or stand for "off".
OTHER_DEFAULTS = {
    "head_pruning.shared_parameters.method",
    "weight_quantization.shared_parameters.fp16_mixed_quantize.quantize_change_ratio",
}


def test_is_a_valid_schema() -> None:
    Draft202012Validator.check_schema(room.schema())


def test_schema_is_a_new_copy() -> None:
    room.schema()["properties"].clear()
    assert room.schema()["properties"]


def test_key_paths_are_those_of_the_frozen_list() -> None:
    """A new key is a change of the public contract: add it to key_paths.txt on purpose."""
    frozen = (Path(__file__).parent / "key_paths.txt").read_text(encoding="utf-8").splitlines()
    assert sorted(PROPERTIES) == frozen


@pytest.mark.parametrize("path", sorted(PROPERTIES))
def test_property_is_documented(path: str) -> None:
    node = PROPERTIES[path]
    parent, _, key = path.rpartition(".")
    owner = PROPERTIES.get(parent, {})
    if parent.endswith("<group>"):
        owner = room.schema()["$defs"]["weight_group"]
    assert node["description"].endswith((".", ")"))
    assert node["examples"]
    assert "default" in node or key in owner.get("required", ()) or {"x-inherited", "x-depends"} & set(node)
    if not isinstance(node.get("type"), list) and node.get("type") == "object" and "properties" in node:
        assert node["additionalProperties"] is False


@pytest.mark.parametrize("path", sorted(PROPERTIES))
def test_examples_and_default_fit_their_own_schema(path: str) -> None:
    node = {**PROPERTIES[path], "$defs": room.schema()["$defs"]}
    validator = Draft202012Validator(node)
    for example in node["examples"]:
        validator.validate(example)
    if "default" in node and node["default"] != ["*"]:
        validator.validate(node["default"])


def test_examples_of_the_whole_block_parse() -> None:
    for example in room.schema()["examples"]:
        room.parse_block(example)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("place", sorted(DATACLASS_OF))
def test_dataclass_defaults_equal_schema_defaults(place: str) -> None:
    fields = {field.name: field for field in dataclasses.fields(DATACLASS_OF[place])}
    for path, node in PROPERTIES.items():
        parent, _, key = path.rpartition(".")
        if parent != place or key not in fields or {"x-inherited", "x-depends"} & set(node) or path in OTHER_DEFAULTS:
            continue
        default = fields[key].default
        if "default" in node:
            assert _plain(default) == node["default"], path
            assert isinstance(_plain(default), bool) == isinstance(node["default"], bool), path
        else:
            assert default is dataclasses.MISSING, path


@pytest.mark.parametrize("kind", sorted(set(DATACLASS_OF.values()), key=lambda kind: kind.__name__))
def test_every_field_has_a_key(kind: type[Any]) -> None:
    places = [place for place, owner in DATACLASS_OF.items() if owner is kind]
    keys = {path.rpartition(".")[2] for path in PROPERTIES if path.rpartition(".")[0] in places}
    assert {field.name for field in dataclasses.fields(kind)} - NOT_FIELDS <= keys


def test_room_needs_no_torch() -> None:
    folder = Path(room.__file__).parent
    for file in folder.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert not any(
            f"import {name}" in text or f"from {name}" in text for name in ("torch", "deepspeed", "transformers")
        )
