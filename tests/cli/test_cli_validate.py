"""``xtc-ds validate``: exit codes, one line per problem, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xtc_ds.cli.main import main

GOOD = '{"compression_training": {"kd": {"enabled": true}}}'
WARNED = '{"compression_training": {"kd": {"enabled": false}}}'
BAD = '{"compression_training": {"kd": {"enabled": 1, "temprature": 2}}}'


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("good", GOOD), ("warned", WARNED), ("bad", BAD), ("broken", "{")):
        (tmp_path / f"{name}.json").write_text(text)


def test_good_files_give_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "good.json", "warned.json"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "good.json: ok",
        "warned.json: warning: compression_training: nothing is enabled: the model stays as it is",
        "warned.json: ok",
    ]


def test_every_problem_of_every_file_on_its_own_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "bad.json", "good.json", "broken.json", "goods.json"]) == 1
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].startswith("bad.json: error: compression_training.kd.enabled: wrong type; found 1;")
    assert lines[1].startswith("bad.json: error: compression_training.kd.temprature: unknown key; found 2;")
    assert lines[2] == "good.json: ok"
    assert lines[3].startswith("broken.json: error: line 1, column 2: neither JSON nor HJSON")
    assert lines[4] == "goods.json: error: no such config file; did you mean 'good.json'?"
    assert len(lines) == 5
    assert captured.err == ""


def test_json_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--json", "good.json", "bad.json"]) == 1
    good, bad = json.loads(capsys.readouterr().out)
    assert good == {"file": "good.json", "valid": True, "errors": [], "warnings": []}
    assert bad["valid"] is False
    assert [error["path"].rpartition(".")[2] for error in bad["errors"]] == ["enabled", "temprature"]


def test_no_file_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["validate"])
    assert caught.value.code == 2
    assert "FILE" in capsys.readouterr().err
