"""The JSON Schema as a contract: complete, valid, equal to its published copy, and read without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from xtc_ds import config as room
from xtc_ds.config.generate import SCHEMA_FILE, main, schema_text
from xtc_ds.config.schema import all_keys, walk_properties

ROOT = Path(__file__).parents[2]
PROPERTIES = dict(walk_properties())


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


def test_the_published_copy_is_what_the_sections_give() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), "run python -m xtc_ds.config.generate"


def test_the_generator_finds_nothing_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_a_section_that_is_empty_has_the_defaults_of_the_schema() -> None:
    """What schema and documentation promise is what an absent key is read as."""
    absent = room.CompressionConfig()
    for section, key in all_keys():
        parsed = section.of(absent)
        if section.switch is None:
            place = f"{section.name}.{key.name}"
            assert getattr(parsed, key.name) == PROPERTIES[place]["default"], place
        else:
            assert not parsed


def test_room_and_pieces_need_no_torch() -> None:
    """Every command that only looks at configs works where torch cannot be imported."""
    blocked = (
        "import sys\n"
        "for name in ('torch', 'deepspeed', 'transformers'):\n    sys.modules[name] = None\n"
        "from xtc_ds.cli.main import main\n"
        "validate, migrate = ['validate', *sys.argv[2:]], ['migrate', sys.argv[1]]\n"
        "for arguments in (validate, migrate, ['schema'], ['schema', '--markdown']):\n"
        "    assert main(arguments) == 0, arguments\n"
    )
    old = ROOT / "tests" / "config" / "good" / "old_xtc_layer_reduction_w1a8.json"
    files = [*ROOT.glob("json_configs/*.json"), *ROOT.glob("tests/config/good/*.json")]
    command = [sys.executable, "-c", blocked, *map(str, [old, *files])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
