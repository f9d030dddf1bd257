"""What a config says is done or refused; nothing of it is silently ignored."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import xtc_ds
from tests.tiny import block, ds_config, tiny_model
from xtc_ds.errors import ConfigError, PlanError
from xtc_ds.layers import compressed_layers


def rename(path: str, new: str) -> Callable[[dict[str, Any]], None]:
    """Give one key of a block another name."""

    def mistake(config: dict[str, Any]) -> None:
        *parents, old = path.split("/")
        for key in parents:
            config = config[key]
        config[new] = config.pop(old)

    return mistake


GROUP = "weight_quantization/different_groups/all"


@pytest.mark.parametrize(
    ("mistake", "found", "meant"),
    [
        (rename("weight_quantization", "weight_quantisation"), "weight_quantisation", "weight_quantization"),
        (rename("weight_quantization/shared_parameters/enabled", "enable"), "enable", "enabled"),
        (rename("weight_quantization/shared_parameters/quantize_groups", "quantize_group"), "quantize_group", "groups"),
        (rename(f"{GROUP}/params/target_bits", "target_bit"), "target_bit", "target_bits"),
        (rename(f"{GROUP}/modules", "module"), "module", "modules"),
    ],
)
def test_a_misspelt_key_is_an_error_that_names_the_right_one(
    mistake: Callable[[dict[str, Any]], None], found: str, meant: str
) -> None:
    """A misspelt technique or key never means training without it."""
    compression = block(shared={"quantize_groups": 2})
    mistake(compression)
    model = tiny_model()
    with pytest.raises(ConfigError) as error:
        xtc_ds.compress(model, ds_config(compression))
    assert found in str(error.value)
    assert meant in str(error.value).split("did you mean", 1)[1]
    assert not any(True for _ in compressed_layers(model))


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    """Each pattern has to find a module, unless its group says that it need not."""
    with pytest.raises(PlanError, match=r"modules\[1\]: 'atention' matches no module"):
        xtc_ds.compress(tiny_model(), ds_config(block(modules=["intermediate", "atention"])))


def test_the_modules_that_a_pattern_found_are_shown_before_training() -> None:
    """Patterns are searched for anywhere in the name, as ever; the plan lists what they found, layer by layer."""
    model = tiny_model(layers=12)
    plan = xtc_ds.compress(model, ds_config(block(activation=None, modules=[r"layer.1"], exclude=[])))
    layers = {row.module.split(".")[3] for row in plan.weights}
    assert layers == {"1", "10", "11"}
    anchored = xtc_ds.compress(
        tiny_model(layers=12), ds_config(block(activation=None, modules=[r"layer\.1\."], exclude=[]))
    )
    assert {row.module.split(".")[3] for row in anchored.weights} == {"1"}


def test_a_star_means_every_module() -> None:
    """Both ``"*"`` left out and ``["*"]`` are all modules, and no broken regular expression."""
    plans = []
    for modules in (["*"], None):
        compression = block(activation=None, exclude=[])
        group = compression["weight_quantization"]["different_groups"]["all"]
        if modules is None:
            del group["modules"]
        plans.append(xtc_ds.compress(tiny_model(), ds_config(compression)))
    assert plans[0].weights == plans[1].weights
    assert len(plans[0].weights) == 4 * 6 + 3 + 2


def test_one_dialect_for_rewriting_and_for_training(tmp_path: Path, single_process_group: None) -> None:
    """A file with comments is read by ``compress`` and by ``initialize`` alike."""
    path = tmp_path / "ds.json"
    path.write_text("{\n  # one bit\n" + json.dumps(ds_config(block()))[1:])
    xtc_ds.compress(tiny_model(), path)
    model = tiny_model()
    engine = xtc_ds.initialize(model=model, config=str(path), model_parameters=list(model.parameters()))[0]
    assert any(True for _ in compressed_layers(engine.module))


def test_the_callers_config_is_only_read(single_process_group: None) -> None:
    """Neither call adds a key to the dict, or takes the block out of it."""
    config = ds_config(block())
    before = copy.deepcopy(config)
    xtc_ds.compress(tiny_model(), config)
    model = tiny_model()
    xtc_ds.initialize(model=model, config=config, model_parameters=list(model.parameters()))
    assert config == before


@pytest.mark.slow
def test_mistakes_are_found_under_optimized_python_too() -> None:
    """Checks are errors, not assertions, which ``python -O`` leaves out."""
    wrong = json.dumps(ds_config(block(params={"start_bits": 1, "target_bits": 2})))
    script = f"import json; from xtc_ds.config import load_config; load_config(json.loads({wrong!r}))"
    done = subprocess.run([sys.executable, "-O", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "start_bits: below target_bits" in done.stderr


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"target_bits": 0, "start_bits": 0}, "target_bits"),
        ({"target_bits": -3, "start_bits": 8}, "target_bits"),
        ({"target_bits": 2.5, "start_bits": 8}, "target_bits"),
        ({"target_bits": 8, "start_bits": 4}, "start_bits: below target_bits"),
    ],
)
def test_bits_that_no_format_has_are_refused_at_once(params: dict[str, Any], message: str) -> None:
    """Not at the first forward, and not silently turned round."""
    with pytest.raises(ConfigError, match=message):
        xtc_ds.compress(tiny_model(), ds_config(block(params=params)))


def test_groups_that_do_not_divide_are_refused_before_the_model_is_changed() -> None:
    """The group count is held against every matched shape when the plan is made."""
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    with pytest.raises(PlanError, match=r"quantize_groups: '0': 4 groups do not divide the 30 weights") as error:
        xtc_ds.compress(model, ds_config(block(shared={"quantize_groups": 4}, exclude=[], activation=None)))
    assert "'1'" not in str(error.value)
    assert [type(layer) for layer in model] == [nn.Linear, nn.Linear]
