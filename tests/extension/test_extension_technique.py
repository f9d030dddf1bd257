"""A technique from outside the package, from the block to the packed file."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import xtc_ds
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.config import section, sections
from xtc_ds.errors import ConfigError, PlanError
from xtc_ds.techniques import registry
from xtc_ds.techniques.registry import techniques

ROOT = Path(__file__).parents[2]
DENSE = "bert.encoder.layer.0.intermediate.dense"


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    sections(), techniques()
    monkeypatch.setattr(section, "_SECTIONS", dict(section._SECTIONS))
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    for part in ("config", "technique"):
        module = importlib.import_module(f"tests.extension.toy_factors.{part}")
        if "toy_factors" not in (section._SECTIONS if part == "config" else registry._registered):
            importlib.reload(module)


def factored(rank: int = 4, modules: str = "intermediate.dense", **others: Any) -> dict[str, Any]:
    group = {"params": {"rank": rank}, "modules": [modules]}
    toy = {"shared_parameters": {"enabled": True}, "different_groups": {"g1": group}}
    return {"export": {"float_dtype": "float32"}, "toy_factors": toy, **others}


def quantized() -> dict[str, Any]:
    """The pooler at 4 bits beside it, and the factored layers themselves."""
    return factored(
        **{k: v for k, v in block(bits=4, modules=["pooler", "layer.0.intermediate"]).items() if k != "export"}
    )


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    result: torch.Tensor = model.eval()(**batch(labels=False)).logits
    return result


def test_its_mistakes_are_told_like_those_of_the_others() -> None:
    with pytest.raises(ConfigError, match=r"toy_factors.different_groups.g1.params.rank: .*found 0"):
        xtc_ds.parse_block(factored(0))
    with pytest.raises(PlanError, match=r"toy_factors.different_groups.g1.params.rank: rank 99 is above that of"):
        xtc_ds.make_plan(tiny_model(), xtc_ds.parse_block(factored(99)))
    with pytest.raises(PlanError, match="matches no module"):
        xtc_ds.make_plan(tiny_model(), xtc_ds.parse_block(factored(modules="nowhere")))
    pruned = {"shared_parameters": {"enabled": True}}
    pruned["different_groups"] = {"g": {"params": {"dense_ratio": 0.5}, "modules": ["query"]}}  # type: ignore[assignment]
    with pytest.raises(PlanError, match="toy_factors: cannot be used together with row_pruning"):
        xtc_ds.make_plan(tiny_model(), xtc_ds.parse_block(factored(row_pruning=pruned)))


def test_its_rows_stand_in_the_plan() -> None:
    made = xtc_ds.make_plan(tiny_model(layers=2), xtc_ds.parse_block(factored()))
    assert xtc_ds.plan_to_dict(made)["toy_factors"][0] == {"module": DENSE, "rank": 4}
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(xtc_ds.plan_table(made))
    assert "rank 4" in console.export_text()


def test_it_comes_before_the_technique_that_it_names() -> None:
    names = [technique.name for technique in techniques()]
    assert names.index("layer_reduction") < names.index("toy_factors") < names.index("weight_quantization")


@pytest.mark.usefixtures("single_process_group")
@pytest.mark.parametrize("stage", [0, 2])
@pytest.mark.parametrize("compression", [factored, quantized])
def test_it_is_trained_resumed_frozen_exported_and_loaded(compression: Any, stage: int, tmp_path: Path) -> None:
    def start() -> Any:
        adam = {"type": "AdamW", "params": {"lr": 1e-2, "torch_adam": True}}
        zero = {"zero_optimization": {"stage": stage}, "zero_force_ds_cpu_optimizer": False}
        model = tiny_model(layers=2)
        config = ds_config(compression(), optimizer=adam, **zero)
        return xtc_ds.initialize(model=model, config=config, model_parameters=list(model.parameters()))[0]

    def train(engine: Any, steps: int) -> list[float]:
        losses = []
        for seed in range(steps):
            loss = engine(**batch(seed=seed)).loss
            engine.backward(loss)
            engine.step()
            losses.append(float(loss.detach()))
        return losses

    engine = start()
    layer = engine.module.get_submodule(DENSE)
    assert layer.weight is None
    before = layer.left_OR.detach().clone()
    train(engine, 3)
    assert not torch.equal(layer.left_OR, before)  # the optimizer has it
    engine.save_checkpoint(str(tmp_path / "checkpoint"))
    again = start()
    again.load_checkpoint(str(tmp_path / "checkpoint"))
    assert again.xtc.hooks.run.memory["toy_factors"] == 3
    assert train(again, 2) == train(engine, 2)

    frozen = xtc_ds.freeze(engine)
    assert torch.allclose(logits(frozen), logits(engine.module), atol=1e-4)
    assert not [name for name in frozen.state_dict() if "left" in name]
    xtc_ds.export_packed(frozen, tmp_path / "packed")
    assert torch.equal(logits(xtc_ds.load(tmp_path / "packed")), logits(frozen))
    xtc_ds.bake(engine)
    assert torch.allclose(logits(engine.module), logits(frozen), atol=1e-4)


def test_an_entry_point_brings_it(tmp_path: Path) -> None:
    about = tmp_path / "my_factors-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-factors\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[xtc_ds.techniques]\nmine = tests.extension.toy_factors\n")
    code = (
        "import sys, xtc_ds\n"
        f"config = xtc_ds.parse_block({factored()!r})\n"
        "print(config.toy_factors[0].rank, 'torch' in sys.modules)\n"
        "from xtc_ds.techniques.registry import techniques\n"
        "print('toy_factors' in [each.name for each in techniques()])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT), *sys.path])}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert found.stdout.split() == ["4", "False", "True"], found.stderr
