"""What a user can get wrong ends before training: one clear message, a non-zero exit code, nothing written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import tiny
from tests.half_precision import fp16_supported
from tests.launcher.tiny_run import launch, save_config, save_glue, save_model
from xtc_ds.launcher.run_folder import RunFolder, choose_folder

pytestmark = pytest.mark.usefixtures("single_process_group")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good model, config and data, to be spoilt one at a time."""
    folder = tmp_path_factory.mktemp("place")
    save_model(folder / "model")
    save_model(folder / "three_labels", num_labels=3)
    names = {"id2label": {0: "equivalent", 1: "not_equivalent"}, "label2id": {"equivalent": 0, "not_equivalent": 1}}
    save_model(folder / "swapped_labels", **names)
    save_config(folder / "good.json")
    save_glue(folder / "data", "mrpc")
    return folder


@pytest.fixture
def flags(place: Path, tmp_path: Path) -> dict[str, str]:
    return {
        "--ds_config": str(place / "good.json"),
        "--model_name_or_path": str(place / "model"),
        "--task_name": "mrpc",
        "--data_dir": str(place / "data"),
        "--output_dir": str(tmp_path / "out"),
    }


@pytest.fixture
def refused(flags: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs with some flags changed (None: left out), checks the manner of the refusal, returns the message."""

    def run(*more: str, **changes: str | None) -> str:
        changed = {**flags, **{f"--{name}": value for name, value in changes.items()}}
        words = [word for name, value in changed.items() if value is not None for word in (name, value)]
        before = sorted(tmp_path.rglob("*"))
        capsys.readouterr()
        try:
            code = launch(*words, *more)
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        assert code in (1, 2)
        assert printed.out == ""
        assert all(line.startswith("train.py: ") for line in printed.err.splitlines())
        assert sorted(tmp_path.rglob("*")) == before
        return printed.err

    return run


CONFIGS = {
    "no block": ({"train_batch_size": 8}, "compression_training"),
    "unknown key": ({"compression_training": {"weight_quantisation": {}}}, "did you mean 'weight_quantization'"),
    "contradictory batches": (
        tiny.ds_config(tiny.block(kd={}), train_batch_size=9),
        "train_batch_size: 9 is not 4 (per device) x 2",
    ),
    "batch of nothing": (
        tiny.ds_config(tiny.block(kd={}), train_micro_batch_size_per_gpu=0),
        "train_micro_batch_size_per_gpu: found 0",
    ),
    "auto": (tiny.ds_config(tiny.block(kd={}), wall_clock_breakdown="auto"), 'wall_clock_breakdown: "auto" has no'),
    "optimizer": (tiny.ds_config(tiny.block(kd={}), optimizer={"type": "Adamm"}), "optimizer.type: no optimizer"),
    "optimizer params": (
        tiny.ds_config(tiny.block(kd={}), optimizer={"type": "SGD", "params": {"lrr": 1}}),
        "DeepSpeed cannot start with this config: ",
    ),
    "scheduler": (tiny.ds_config(tiny.block(kd={}), scheduler={"type": "Warm"}), "scheduler.type: no scheduler"),
    "zero stage": (tiny.ds_config(tiny.block(kd={}), zero_optimization={"stage": 7}), "stage"),
    "fp16 on a CPU": (tiny.ds_config(tiny.block(kd={}), fp16={"enabled": True}), "fp16"),
    "pattern": (tiny.ds_config(tiny.block(kd={}, modules=["atention"])), "atention"),
    "layers": (tiny.ds_config(tiny.block(kd={}, reduction={"keep_number_layer": 9})), "9"),
    "layer map": (tiny.ds_config(tiny.block(kd={"layer_map": [0, 1]})), "layer_map"),
    "kd teacher": (tiny.ds_config(tiny.block(kd={"teacher": "/no/such"})), "names the teacher '/no/such'"),
}


# What DeepSpeed refuses on this machine only.
TAKEN = {"fp16 on a CPU": pytest.mark.skipif(fp16_supported(), reason="DeepSpeed takes fp16 on this machine")}


@pytest.mark.parametrize("name", [pytest.param(name, marks=TAKEN.get(name, ())) for name in CONFIGS])
def test_configs(name: str, refused: Callable[..., str], place: Path) -> None:
    config, message = CONFIGS[name]
    if name == "contradictory batches":
        config = {**config, "gradient_accumulation_steps": 2}
    file = place / f"{name}.json"
    file.write_text(json.dumps(config))
    assert message in refused(ds_config=str(file))


def test_config_files(refused: Callable[..., str], place: Path) -> None:
    (place / "broken.json").write_text('{"train_batch_size": 8,, }')
    assert "broken.json" in refused(ds_config=str(place / "broken.json"))
    assert "missing.json" in refused(ds_config=str(place / "missing.json"))
    assert "--ds_config" in refused(ds_config=None)


def test_flags(refused: Callable[..., str], place: Path) -> None:
    assert "did you mean 'mrpc'" in refused(task_name="mrcp")
    assert "must be above 0; found -1" in refused(learning_rate="-1")
    assert "invalid whole number value: 'x'" in refused(max_steps="x")
    assert "must be at most 1" in refused(warmup_ratio="2")
    assert "max_seq_length must be at least" in refused(max_seq_length="4")
    assert "exclude each other" in refused(teacher=str(place / "model"))
    assert "exclude each other" in refused("--resume", "--overwrite_output_dir")
    assert "unrecognized arguments: --max_step" in refused("--max_step", "3")


def test_learning_rate_of_flag_and_config(refused: Callable[..., str], place: Path) -> None:
    config = save_config(place / "rate.json", optimizer={"type": "AdamW", "params": {"lr": 0.1}})
    assert 'optimizer.params.lr: found 0.1, but a flag says 0.2; write "auto"' in refused(
        ds_config=config, learning_rate="0.2"
    )


def test_data(refused: Callable[..., str], place: Path) -> None:
    assert "no such folder" in refused(data_dir=str(place / "nowhere"))
    assert "reads no files" in refused(task_name="reviews")
    spoilt = place / "spoilt"
    shutil.copytree(place / "data", spoilt)
    good = (spoilt / "train.tsv").read_text().splitlines()
    for row, message in {"2\t1\t2\ta\tb": "line 3: unknown label '2'", "1\t1\ta\tb": "line 3: 4 columns"}.items():
        (spoilt / "train.tsv").write_text("\n".join([*good[:2], row, *good[3:]]))
        assert message in refused(data_dir=str(spoilt))
    (spoilt / "train.tsv").write_text(good[0] + "\n")
    assert "no rows" in refused(data_dir=str(spoilt))
    (spoilt / "train.tsv").write_text("")
    assert "the file is empty" in refused(data_dir=str(spoilt))


def test_models(refused: Callable[..., str], place: Path) -> None:
    assert "no such folder" in refused(model_name_or_path="/no/such/model")
    none = {"model_name_or_path": None}
    assert "no such folder" in refused(**none, teacher="./no_such")
    assert "has 3 labels, the task mrpc 2" in refused(**none, teacher=str(place / "three_labels"))
    assert "in this order" in refused(**none, teacher=str(place / "swapped_labels"))
    broken = place / "broken"
    shutil.copytree(place / "model", broken)
    (broken / "model.safetensors").write_bytes(b"not a checkpoint")
    assert str(broken) in refused(model_name_or_path=str(broken))
    assert str(broken) in refused(**none, teacher=str(broken))
    (broken / "model.safetensors").unlink()
    assert str(broken) in refused(model_name_or_path=str(broken))
    (broken / "config.json").write_text("{")
    assert "no model config can be read" in refused(model_name_or_path=str(broken))


def test_tokenizer_of_another_model(refused: Callable[..., str], place: Path) -> None:
    other = place / "small_vocabulary"
    save_model(other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "vocab_size": 5}))
    assert "the tokenizer gives token" in refused(model_name_or_path=str(other))
    (other / "tokenizer.json").unlink()
    (other / "tokenizer_config.json").unlink()
    assert "no tokenizer can be read" in refused(model_name_or_path=str(other))


def test_demo_package_is_missing(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    assert "install the demo extra" in refused(model_name_or_path=None)


def test_only_rank_zero_speaks(flags: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip # noqa: E501
    monkeypatch.setenv("RANK", "1")
    flags["--task_name"] = "nothing"
    assert launch(*(word for pair in flags.items() for word in pair)) == 1
    with pytest.raises(SystemExit):
        launch("--no_such_flag")
    printed = capsys.readouterr()
    assert printed.out + printed.err == ""


def test_debug_shows_the_error(flags: dict[str, str]) -> None:
    flags["--task_name"] = "nothing"
    with pytest.raises(ValueError, match="unknown task"):
        launch(*(word for pair in flags.items() for word in pair), "--debug")


@pytest.mark.slow
def test_without_a_runner(flags: dict[str, str], tmp_path: Path) -> None:
    flags["--task_name"] = "nothing"
    ranks = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    environment = {k: v for k, v in os.environ.items() if k not in ranks} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "launcher" / "train.py"), *(word for pair in flags.items() for word in pair)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("train.py: error: unknown task 'nothing'")
    assert list(tmp_path.iterdir()) == []


class TestFolder:
    SETTINGS = {"seed": 1, "ds_config": {"a": 1}}  # noqa: RUF012

    def choose(self, path: Path | None, resume: bool = False, overwrite: bool = False, **more: object) -> RunFolder:
        settings = {**self.SETTINGS, **{k: v for k, v in more.items() if k != "teacher"}}
        return choose_folder(path, "a-b", settings, resume, overwrite, more.get("teacher"))  # type: ignore[arg-type]

    def test_default_is_numbered(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        first = self.choose(None)
        first.begin(self.SETTINGS, resume=False)
        assert self.choose(None).path == Path("output/a-b-2")

    @pytest.mark.parametrize("flag", ["resume", "overwrite"])
    def test_flags_need_a_folder(self, flag: str) -> None:
        with pytest.raises(ValueError, match="needs --output_dir"):
            self.choose(None, **{flag: True})

    def test_files(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_text("")
        with pytest.raises(ValueError, match="is a file"):
            self.choose(file)
        with pytest.raises(ValueError, match=r"cannot be made: .*file is a file"):
            self.choose(file / "inside")
        for overwrite in (False, True):
            with pytest.raises(ValueError, match="files that are not a run's"):
                self.choose(tmp_path, overwrite=overwrite)

    def test_a_run_is_kept_or_emptied(self, tmp_path: Path) -> None:
        run = self.choose(tmp_path / "run")
        run.begin(self.SETTINGS, resume=False)
        run.results.write_text("{}")
        run.packed.mkdir()
        with pytest.raises(ValueError, match="holds a run; add"):
            self.choose(run.path)
        with pytest.raises(ValueError, match="lies in the folder"):
            self.choose(run.path, overwrite=True, teacher=str(run.teacher))
        self.choose(run.path, overwrite=True)
        assert run.results.exists()
        run.begin(self.SETTINGS, resume=False)
        assert [path.name for path in run.path.iterdir()] == ["run.json"]

    def test_resume(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="holds no run to resume"):
            self.choose(tmp_path / "none", resume=True)
        run = self.choose(tmp_path / "run")
        run.begin(self.SETTINGS, resume=False)
        assert self.choose(run.path, resume=True) == run
        with pytest.raises(ValueError, match="another one: seed was 1, is 2"):
            self.choose(run.path, resume=True, seed=2)
        with pytest.raises(ValueError, match="the config's DeepSpeed part has changed"):
            self.choose(run.path, resume=True, ds_config={"a": 2})
        run.results.write_text("{}")
        with pytest.raises(ValueError, match="is finished"):
            self.choose(run.path, resume=True)
