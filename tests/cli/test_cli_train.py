"""``xtc-ds train`` is the launcher: the same flags, and DeepSpeed's runner for several processes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from xtc_ds.cli.main import main
from xtc_ds.launcher import train
from xtc_ds.launcher.configs import find_config, shipped_configs

FLAGS = ["--ds_config", "c.json", "--task_name", "my-task", "--a_flag_of_the_task", "--learning_rate", "1e-3"]


class Ended(Exception):
    """Stands for the end of the process, with what would have run."""


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(*what: Any) -> NoReturn:
        raise Ended(*what)

    monkeypatch.setattr("os.execv", end)
    monkeypatch.setattr(train, "run_and_exit", end)


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize("words", [["train", *FLAGS], ["--debug", "train", *FLAGS], ["train", *FLAGS, "--debug"]])
def test_all_flags_reach_the_launcher(words: list[str]) -> None:
    with pytest.raises(Ended) as run:
        main(words)
    assert run.value.args == ([word for word in words if word != "train"], "xtc-ds train")


@pytest.mark.usefixtures("ended")
def test_flags_of_the_runner_start_several_processes() -> None:
    with pytest.raises(Ended) as run:
        main(["train", "--num_gpus", "2", *FLAGS[:2], "--hostfile", "hosts", *FLAGS[2:], "--no_ssh"])
    runner = ["--num_gpus=2", "--hostfile=hosts", "--no_ssh"]
    command = [sys.executable, "-m", "deepspeed.launcher.runner", *runner, "--module", "xtc_ds.launcher", *FLAGS]
    assert run.value.args == (sys.executable, command)


def test_help_lists_the_flags_of_runner_launcher_and_task(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    for flag in ("--num_gpus", "--hostfile", "--ds_config", "--teacher", "--resume", "--save_steps", "--debug"):
        assert flag in told


def test_shipped_configs_are_found_by_name_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = shipped_configs()
    assert {"xtc_1bit", "quant_int8", "layer_reduction"} <= shipped.keys()
    for name in ("xtc_1bit", "xtc_1bit.json", "json_configs/xtc_1bit.json"):
        assert Path(find_config(name)).samefile(shipped["xtc_1bit"])
    for name in ("xtc_2bit", "elsewhere/xtc_1bit.json", "xtc_1bit.yaml", str(tmp_path / "xtc_1bit.json")):
        assert find_config(name) == name
    (tmp_path / "xtc_1bit.json").write_text("{}")
    assert find_config("xtc_1bit.json") == "xtc_1bit.json"
