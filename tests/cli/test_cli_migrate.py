"""``xtc-ds migrate`` as a command: what it prints and writes, what is in the docs, and what is never done."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.parity.differences import DIFFERENCES
from xtc_ds.cli.main import main
from xtc_ds.config import check_config, load_config
from xtc_ds.config.migrate import migrate_config

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
OLD = sorted([*EXAMPLES.glob("old_*.json"), *ROOT.glob("tests/config/good/old_*.json")])


def weights(**shared: Any) -> dict[str, Any]:
    group = {"params": {"start_bits": 8, "target_bits": 8}, "modules": ["dense"]}
    return {"weight_quantization": {"shared_parameters": {"enabled": True, **shared}, "different_groups": {"g": group}}}


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_old_config_becomes_a_valid_one_that_stays_as_it_is(path: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.json"
    assert main(["migrate", str(path), str(new)]) == 0
    config = load_config(new)[1]
    assert config.warnings == ()
    again = migrate_config(json.loads(new.read_text()))
    assert again.config == json.loads(new.read_text())


def test_the_docs_show_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "deepspeed_migration.md").read_text(encoding="utf-8")
    shown = re.findall(r"```console\n\$ xtc-ds (migrate [^\n]*)\n(.*?)```", text, flags=re.DOTALL)
    assert len(shown) == 3
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    for command, output in shown:
        assert main(shlex.split(command)) == 0
        assert capsys.readouterr().out == output


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('  "enabled": FP16_ENABLE', "FP16_ENABLE"),
        ('  "train_batch_size" : CONFIG_BATCH_SIZE,', "CONFIG_BATCH_SIZE"),
        ('  "train_batch_size": {{ batch }},', "{{ batch }}"),
        ("  lr: ${LR}", "${LR}"),
        ("  lr: <learning rate>,", "<learning rate>"),
    ],
)
def test_placeholders_are_named_with_their_line(
    line: str, found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "template.json"
    old.write_text("{\n" + line + "\n}\n")
    assert main(["migrate", str(old)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"xtc-ds: error: {old}: line 2: found the placeholder {found}; fill the template in first\n"


def test_words_in_hjson_are_no_placeholders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = tmp_path / "old.hjson"
    block = json.dumps(weights(schedule_offset=0))
    head = '{\n  # why\n  scheduler: {\n type: WarmupLR\n}\n  "name": "MY_RUN"\n'
    old.write_text(f"{head} compression_training: {block}\n}}")
    assert main(["migrate", str(old)]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["scheduler"] == {"type": "WarmupLR"}
    assert "without its comments" in err


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, link = tmp_path / "old.json", tmp_path / "new.json", tmp_path / "link.json"
    text = json.dumps({"compression_training": weights(schedule_offset=0)})
    old.write_text(text)
    link.symlink_to(old)
    new.write_text("mine")
    for target, force in ((new, []), (old, ["--force"]), (link, ["--force"]), (tmp_path, ["--force"])):
        assert main(["migrate", str(old), str(target), *force]) == 1
    assert main(["migrate", str(old), str(tmp_path / "no" / "new.json")]) == 1
    assert (old.read_text(), new.read_text()) == (text, "mine")
    assert capsys.readouterr().out == ""
    assert main(["migrate", str(old), str(new), "--force"]) == 0
    assert check_config(new)[0] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "new.json", "old.json"]


def test_text_that_utf8_cannot_hold_is_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = tmp_path / "old.json"
    moq = {"enabled": True, "\ud800": "\ud800"}
    old.write_text(json.dumps({"name": "\ud800", "quantize_training": moq}))
    assert main(["migrate", str(old)]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "\ud800"


def test_a_config_that_fails_writes_nothing(tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps({"compression_training": weights(quantise=1)}))
    assert main(["migrate", str(old), str(new)]) == 1
    assert not new.exists()


def test_the_docs_name_every_deliberate_difference() -> None:
    text = (ROOT / "docs" / "deepspeed_migration.md").read_text(encoding="utf-8")
    listed = dict(
        re.findall(r"^\| (.*?) \| (.*?) \|$", text.partition("## Numbers that differ")[2], flags=re.MULTILINE)
    )
    wanted = {"here": "DeepSpeed 0.19.6", **DIFFERENCES}
    rows = "\n".join(f"| {new} | {old} |" for new, old in DIFFERENCES.items())
    assert listed == wanted, f"paste into the last table of docs/deepspeed_migration.md:\n{rows}"
