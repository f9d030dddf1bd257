"""A section from outside the package: in the schema, the checks, the parsed config, the migration and the docs."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.validations import count_validations
from xtc_ds.config import CompressionConfig, check_block, load_config, parse_block, schema, sections
from xtc_ds.config import section as registry
from xtc_ds.config.grouped_section import GroupedSection
from xtc_ds.config.json_value import Finding
from xtc_ds.config.keys import key
from xtc_ds.config.migrate import migrate_config
from xtc_ds.config.pieces import Group
from xtc_ds.config.section import register_section
from xtc_ds.config.tables import key_table
from xtc_ds.config.written import Written
from xtc_ds.errors import ConfigError

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class FoldGroup(Group):
    """Weights are folded."""

    rank: int = key("How many columns stay.", scope="params", examples=(4,), minimum=1, aliases=("columns",))
    start: Literal["random", "svd"] = key("Where it starts.", "svd", examples=("random",))

    @classmethod
    def check(cls, written: Written) -> Iterator[Finding]:
        """Odd ranks are refused, to have something to check."""
        if written["rank"] % 2:
            yield written.place("rank"), f"odd; found {written.shown('rank')}; allowed: even numbers"


@pytest.fixture
def folding(monkeypatch: pytest.MonkeyPatch) -> GroupedSection[FoldGroup]:
    """The section, until the test ends."""
    sections()
    monkeypatch.setattr(registry, "_SECTIONS", dict(registry._SECTIONS))
    group = {"params": {"rank": 4}, "modules": ["dense"]}
    return register_section(
        GroupedSection[FoldGroup](
            name="folding",
            piece=FoldGroup,
            title="folding",
            description="Weights with fewer columns.",
            group_text="One group of modules.",
            params_text="Keys of this group.",
            params_example={"rank": 4},
            group_example=group,
            example={"shared_parameters": {"enabled": True}, "different_groups": {"g1": group}},
            aliases=("low_rank",),
        )
    )


def _block(**params: Any) -> dict[str, Any]:
    groups = {"a": {"params": params, "modules": ["dense"]}}
    return {"folding": {"shared_parameters": {"enabled": True, "start": "random"}, "different_groups": groups}}


def _messages(block: Any) -> list[str]:
    return [str(problem).removeprefix("compression_training.") for problem in check_block(block)[0]]


def test_it_is_parsed(folding: GroupedSection[FoldGroup]) -> None:
    config = parse_block(_block(rank=4.0))
    (group,) = folding.of(config)
    assert group is config.folding[0] is config.section("folding")[0]
    assert (group.rank, type(group.rank), group.start, group.modules) == (4, int, "random", ("dense",))
    assert group.path == "compression_training.folding.different_groups.a"
    assert parse_block(_block(rank=4, start="svd")).folding[0].start == "svd"
    assert config.enabled() == ("folding",)
    assert CompressionConfig().folding == parse_block({}).folding == ()
    assert pickle.loads(pickle.dumps(config)).folding == config.folding


def test_it_is_in_the_schema_and_in_the_docs(folding: GroupedSection[FoldGroup]) -> None:
    assert list(schema()["properties"])[-1] == "folding"
    assert schema()["$defs"]["folding_group"]["properties"]["params"]["required"] == ["rank"]
    lines = list(key_table())
    assert "## `folding`" in lines
    assert '| `shared_parameters.start` | `"random"`, `"svd"` | `"svd"` | Where it starts. |' in lines


def test_its_mistakes_are_found(folding: GroupedSection[FoldGroup]) -> None:
    place = "folding.different_groups.a.params"
    assert _messages(_block(rank=3)) == [f"{place}.rank: odd; found 3; allowed: even numbers"]
    assert _messages(_block(rank=0)) == [f"{place}.rank: out of range; found 0; allowed: an integer >= 1"]
    assert _messages(_block(rnk=4))[0].endswith("allowed: rank, start; did you mean 'rank'?")
    assert _messages(_block(columns=4))[0].endswith("did you mean 'rank'?")
    assert _messages(_block(rank=4, start="randon"))[0].endswith('did you mean "random"?')
    assert _messages({"fodling": {}})[0].endswith("did you mean 'folding'?")
    assert _messages({"low_rank": {}})[0].endswith("did you mean 'folding'?")
    assert _messages({"folding": {"rank": 4}})[0].endswith("'folding.different_groups.<group>.params.rank'?")
    assert "enabled without any group" in _messages({"folding": {"shared_parameters": {"enabled": True}}})[0]


def test_a_block_that_has_it_is_not_migrated(folding: GroupedSection[FoldGroup]) -> None:
    config = {"compression_training": _block(rank=4)}
    found = migrate_config(config)
    assert found.config == config
    assert [note.action for note in found.notes] == ["same key"]


def test_it_is_gone_again() -> None:
    assert "folding" not in schema()["properties"]
    assert _messages(_block(rank=4))[0].startswith("folding: unknown key")
    with pytest.raises(AttributeError, match="folding"):
        _ = CompressionConfig().folding


def test_a_runtime_block_was_written_for_this_library() -> None:
    config = {"compression_training": {"runtime": {"integer_forward": False}}}
    assert [note.action for note in migrate_config(config).notes] == ["same key", "warning"]


def test_a_parsed_block_is_not_validated_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_validations(monkeypatch)
    rest, config = load_config(ROOT / "json_configs" / "xtc_1bit.json")
    assert len(calls) == 1
    again, same = load_config({**rest, "compression_training": config})
    assert (again, len(calls)) == (rest, 1)
    assert same is config


def test_keys_of_a_parsed_block_change_together_with_its_json() -> None:
    config = parse_block({"kd": {"enabled": True, "cache": "logits", "hidden_weight": 0, "attention_weight": 0}})
    changed = config.with_keys("kd", cache_folder="there")
    assert (config.kd.cache_folder, changed.kd.cache_folder) == (None, "there")
    assert parse_block(changed.to_dict()) == changed


def test_keys_of_losses_are_attributes_of_the_section() -> None:
    kd = parse_block({"kd": {"enabled": True, "temperature": 2}}).kd
    assert (kd.temperature, kd.attention_type, kd.hidden_weight) == (2.0, "scores", 1.0)
    assert pickle.loads(pickle.dumps(kd)) == kd
    with pytest.raises(AttributeError, match="temprature"):
        _ = kd.temprature


PLUGIN = """
from dataclasses import dataclass
from xtc_ds.config.keys import key
from xtc_ds.config.pieces import Piece
from xtc_ds.config.plain_sections import SettingsSection
from xtc_ds.config.section import register_section


@dataclass(frozen=True, kw_only=True)
class Colour(Piece):
    hue: int = key("The hue.", 3, examples=(7,), minimum=0)


register_section(
    SettingsSection[Colour](name="colour", piece=Colour, title="colour", description="Colour.", example={"hue": 7})
)
"""


def _run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("module", ["paint_technique.config", "paint_technique"])
def test_an_entry_point_brings_a_section(tmp_path: Path, module: str) -> None:
    file = tmp_path.joinpath(*module.split(".")).with_suffix(".py")
    file.parent.mkdir(exist_ok=True)
    file.write_text(PLUGIN)
    (tmp_path / "paint-1.0.dist-info").mkdir()
    (tmp_path / "paint-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: paint\nVersion: 1.0\n")
    entry = tmp_path / "paint-1.0.dist-info" / "entry_points.txt"
    entry.write_text("[xtc_ds.techniques]\ncolour = paint_technique\n")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from xtc_ds.config import parse_block, schema\n"
        "from xtc_ds.config.generate import SCHEMA_FILE, schema_text\n"
        "assert parse_block({}).colour.hue == 3 and parse_block({'colour': {'hue': 5}}).colour.hue == 5\n"
        "assert schema()['properties']['colour']['properties']['hue']['default'] == 3\n"
        "assert schema_text() == SCHEMA_FILE.read_text(encoding='utf-8')\n"
    )
    done = _run(tmp_path, code)
    assert done.returncode == 0, done.stderr
    entry.write_text("[xtc_ds.techniques]\ncolour = paint_techniques\n")
    done = _run(tmp_path, "from xtc_ds.cli.main import main; raise SystemExit(main(['schema']))")
    assert done.returncode == 1
    assert "the entry point colour = paint_techniques (xtc_ds.techniques) cannot be imported" in done.stderr


def test_errors_of_a_whole_config_come_with_those_of_the_block() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"quantize_training": {}, "compression_training": {"kd": {"enabled": 1}}})
    assert [problem.path for problem in caught.value.problems] == [
        "quantize_training",
        "compression_training.kd.enabled",
    ]
