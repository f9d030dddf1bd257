"""``install``: old import paths, and ``deepspeed.initialize`` with the block still in the config."""

from __future__ import annotations

import copy
import importlib
import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import deepspeed
import pytest
import torch
from torch import nn

from tests.tiny import batch, block, ds_config, tiny_model
from tests.validations import count_validations
from xtc_ds.compat import deepspeed as compat
from xtc_ds.compat.run import main
from xtc_ds.errors import EngineError
from xtc_ds.layers import compressed_layers

FALLING = {"bits": 8, "params": {"start_bits": 8, "target_bits": 2, "quantization_period": 1}}
ADAMW = {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}}


def config(optimizer: bool = True, stage: int = 0, **kwargs: Any) -> dict[str, Any]:
    extra: dict[str, Any] = {"zero_optimization": {"stage": stage}, "zero_force_ds_cpu_optimizer": False}
    return ds_config(block(**kwargs), **extra, **({"optimizer": ADAMW} if optimizer else {}))


def train(engine: Any, steps: int = 1) -> None:
    engine.train()
    for step in range(steps):
        engine.backward(engine(**batch(seed=step)).loss)
        engine.step()


def compressed(model: nn.Module) -> bool:
    return any(True for _ in compressed_layers(model))


def test_the_old_import_paths_give_these_functions(installed: None) -> None:
    from deepspeed.compression import convert_conv1d_to_linear, init_compression  # type: ignore[import-not-found]
    from deepspeed.compression.compress import redundancy_clean, student_initialization
    from deepspeed.compression.config import get_compression_config
    from deepspeed.compression.helper import recursive_getattr, recursive_setattr
    from deepspeed.compression.scheduler import compression_scheduler

    assert (init_compression, redundancy_clean) == (compat.init_compression, compat.redundancy_clean)
    assert student_initialization is compat.student_initialization
    assert convert_conv1d_to_linear is compat.convert_conv1d_to_linear
    assert compression_scheduler is compat.compression_scheduler
    assert get_compression_config is compat.get_compression_config
    model = nn.ModuleDict({"a": nn.Linear(2, 3)})
    assert recursive_getattr(model, "a.weight").shape == (3, 2)
    recursive_setattr(model, "a", nn.Linear(2, 5))
    assert model["a"].weight.shape == (5, 2)


def test_installing_twice_and_uninstalling_leave_deepspeed_as_it_was(single_process_group: None) -> None:
    def attributes() -> dict[str, Any]:
        names = {"initialize": deepspeed.initialize, "config": deepspeed.DeepSpeedConfig.__init__}
        return names | {name: sys.modules.get(f"deepspeed.compression.{name}") for name in ("compress", "scheduler")}

    before = attributes()
    compat.install()
    ours = deepspeed.initialize
    compat.install()
    assert deepspeed.initialize is ours
    compat.uninstall()
    assert attributes() == before
    compat.uninstall()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert getattr(importlib.import_module("deepspeed.compression"), "init_compression", None) is not ours
    compat.install()
    assert deepspeed.initialize is not before["initialize"]
    compat.uninstall()


def test_names_that_were_imported_before_follow(single_process_group: None, monkeypatch: pytest.MonkeyPatch) -> None:
    script = type(sys)("an_old_script")
    script.initialize = deepspeed.initialize  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "an_old_script", script)
    compat.install()
    try:
        assert script.initialize is deepspeed.initialize
    finally:
        compat.uninstall()
    assert script.initialize is deepspeed.initialize


@pytest.mark.slow
def test_deepspeed_may_be_imported_after() -> None:
    script = [
        "from xtc_ds.compat.deepspeed import install; import sys",
        "assert 'torch' not in sys.modules",
        "install()",
        "from deepspeed.compression.compress import init_compression",
        "import deepspeed",
        "assert init_compression.__module__ == 'xtc_ds.compat.model'",
        "assert hasattr(deepspeed.initialize, '__wrapped__')",
    ]
    subprocess.run([sys.executable, "-W", "ignore", "-c", "\n".join(script)], check=True, timeout=120)


@pytest.mark.parametrize("how", ["config", "config_params", "args", "path", "hjson on the command line"])
def test_the_schedule_of_a_compressed_model_advances_wherever_the_config_stands(
    installed: None, tmp_path: Path, how: str
) -> None:
    from deepspeed.compression.compress import init_compression

    given = config(**FALLING)
    before, path = copy.deepcopy(given), tmp_path / "ds.json"
    path.write_text(("# HJSON\n" if "hjson" in how else "") + json.dumps(given))
    model = init_compression(tiny_model(), str(path))
    named: dict[str, Any] = {
        "config": {"config": given},
        "config_params": {"config_params": given},
        "path": {"config": str(path)},
    }.get(how, {"args": SimpleNamespace(deepspeed_config=str(path), local_rank=0)})
    engine, optimizer, _, _ = deepspeed.initialize(model=model, model_parameters=model.parameters(), **named)
    assert engine.module is model
    assert optimizer is engine.optimizer
    assert given == before
    train(engine, 2)
    assert engine.xtc.schedule.bits()["weights"]["all"] == 6
    assert "args" not in named or named["args"].deepspeed_config == str(path)


def test_the_old_loop_resumes_and_cleans(installed: None, tmp_path: Path) -> None:
    from deepspeed.compression.compress import init_compression, redundancy_clean

    def start() -> Any:
        model = init_compression(tiny_model(), config(**FALLING))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return deepspeed.initialize(model=model, optimizer=optimizer, config=config(optimizer=False, **FALLING))[0]

    engine = start()
    train(engine, 3)
    engine.save_checkpoint(str(tmp_path))
    again = start()
    again.load_checkpoint(str(tmp_path))
    assert again.xtc.schedule.step == 3
    plain = init_compression(tiny_model(), config(**FALLING))
    saved = torch.load(next(tmp_path.rglob("mp_rank_00_model_states.pt")), weights_only=False)
    plain.load_state_dict(saved["module"])
    assert redundancy_clean(engine, config(**FALLING)) is engine
    redundancy_clean(plain, config(**FALLING))
    engine.eval()
    with torch.no_grad():
        outputs = [model(**batch(labels=False)).logits for model in (engine, plain.eval())]
    assert torch.equal(*outputs)
    assert len(engine.module.bert.pooler.dense.weight.unique()) == 3


def test_training_may_go_on_after_cleaning_unquantized_as_it_did(installed: None) -> None:
    given = config(activation=None, **FALLING)
    model = compat.init_compression(tiny_model(), given)
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=given)
    train(engine)
    compat.redundancy_clean(model, given)
    assert len(model.bert.pooler.dense.weight.unique()) == 3
    train(engine, 2)
    assert len(model.bert.pooler.dense.weight.unique()) > 3


def test_a_block_is_validated_once_from_the_beginning_to_the_end(
    installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated = count_validations(monkeypatch)
    given = config(activation=None, **FALLING)
    model = compat.init_compression(tiny_model(), given)
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=given)
    compat.redundancy_clean(engine, given)
    assert len(validated) == 1


def test_cleaning_reaches_partitioned_weights(installed: None) -> None:
    from deepspeed.compression.compress import init_compression, redundancy_clean

    given = config(stage=3, bits=2)
    model = init_compression(tiny_model(), given)
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=given)
    train(engine)
    redundancy_clean(engine, given)
    redundancy_clean(engine, given)
    weight = engine.module.bert.pooler.dense.weight
    assert weight.numel() == 0
    with deepspeed.zero.GatheredParameters([weight]):
        assert len(weight.unique()) == 3


def test_a_wrapper_around_the_compressed_model_is_seen_through(installed: None) -> None:
    class Wrapper(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, **inputs: torch.Tensor) -> Any:
            return self.inner(**inputs)

    model = Wrapper(compat.init_compression(tiny_model(), config(**FALLING)))
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config(**FALLING))
    train(engine, 1)
    assert engine.xtc.schedule.bits()["weights"]["all"] == 7


def test_a_model_that_was_not_compressed_is_compressed_here(installed: None, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_model()
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config(**FALLING))
    assert [record.message for record in caplog.records if record.name.startswith("xtc_ds.compat")] == [
        "deepspeed.initialize: compressing the model as the compression_training block says"
    ]
    assert compressed(model)
    train(engine, 2)
    assert engine.xtc.schedule.step == 2


def test_teachers_and_models_without_an_optimizer_are_left_alone(
    installed: None, caplog: pytest.LogCaptureFixture
) -> None:
    teacher = tiny_model()
    deepspeed.initialize(model=teacher, config=config(optimizer=False))
    assert not compressed(teacher)
    assert "not compressed: its engine has no optimizer" in caplog.text
    compat.init_compression(tiny_model(), config())
    deepspeed.initialize(model=teacher, model_parameters=teacher.parameters(), config=config())
    assert not compressed(teacher)
    assert "compresses its models by init_compression, and this one never went through it" in caplog.text


def test_a_disabled_block_is_taken_out_and_no_block_is_no_matter(installed: None) -> None:
    disabled = config(shared={"enabled": False}, activation=None)
    for given in (disabled, {k: v for k, v in disabled.items() if k != "compression_training"}):
        model = tiny_model()
        engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=given)
        assert type(engine) is deepspeed.DeepSpeedEngine
        assert not compressed(model)


def test_another_block_for_the_engine_is_a_warning(installed: None, caplog: pytest.LogCaptureFixture) -> None:
    model = compat.init_compression(tiny_model(), config(**FALLING))
    with caplog.at_level(logging.WARNING, "xtc_ds"):
        deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config(bits=1))
    assert "init_compression got another block, and that one counts" in caplog.text


def test_a_model_compressed_by_the_library_itself_is_an_error(installed: None) -> None:
    import xtc_ds

    model = tiny_model()
    xtc_ds.compress(model, config())
    with pytest.raises(EngineError, match="compressed by xtc_ds.compress"):
        deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config())


def test_zero_init_takes_the_config_with_the_block(installed: None) -> None:
    given = config(stage=3)
    before = copy.deepcopy(given)
    with deepspeed.zero.Init(config_dict_or_path=given):
        linear = nn.Linear(4, 4)
    assert linear.weight.numel() == 0
    assert given == before


def test_an_engine_that_exists_already_is_compressed_if_its_parameters_stay(installed: None) -> None:
    plain = {key: value for key, value in config().items() if key != "compression_training"}
    model = tiny_model()
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=plain)
    with pytest.raises(EngineError, match="call init_compression before deepspeed.initialize"):
        compat.init_compression(engine, config(reduction={"keep_number_layer": 2}))
    assert not compressed(model)
    assert compat.init_compression(engine, config(**FALLING)) is engine
    train(engine)
    assert engine.xtc.schedule.bits()["weights"]["all"] == 7


def test_distillation_of_the_block_is_on_in_the_old_loop(installed: None) -> None:
    given = config(kd={"temperature": 1.0}, **FALLING)
    model = compat.init_compression(tiny_model(), given, teacher_model=tiny_model())
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=given)
    train(engine)
    assert set(engine.xtc.loss_parts()) > {"logits", "loss"}


def test_the_runner_says_how_it_is_used(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([]) == 2
    assert "usage: python -m xtc_ds.compat SCRIPT.py" in capsys.readouterr().err
    try:
        assert main([str(tmp_path / "none.py")]) == 2
    finally:
        compat.uninstall()
    assert "no such script" in capsys.readouterr().err


def test_the_runner_gives_a_script_its_arguments_and_its_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside.py").write_text("VALUE = 7")
    (tmp_path / "old.py").write_text("import beside, sys\nprint(__name__, beside.VALUE, sys.argv[1:])")
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    try:
        assert main(["--local_rank=0", str(tmp_path / "old.py"), "--flag", "x"]) == 0
    finally:
        compat.uninstall()
    assert capsys.readouterr().out == "__main__ 7 ['--local_rank=0', '--flag', 'x']\n"
