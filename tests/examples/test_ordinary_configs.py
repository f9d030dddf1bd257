"""The block, pasted into DeepSpeed configs that know nothing of it: both parts do what they say."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import xtc_ds
from tests.examples.running import CONFIGS, PATIENCE
from tests.half_precision import allow_fp16
from tests.tiny import batch, block, tiny_model
from xtc_ds.config.source import read_config
from xtc_ds.errors import ConfigError
from xtc_ds.layers import compressed_layers
from xtc_ds.zero import gathered

pytestmark = pytest.mark.usefixtures("single_process_group")

HALVED = {"keep_number_layer": 2}
DISTILLED = {"teacher": "self", "temperature": 2.0}
# What is added to each, and how many distinct values a weight may then have.
BLOCKS: dict[str, tuple[dict[str, Any], int]] = {
    "activation_checkpointing.json": ({"bits": 2}, 3),
    "comments.hjson": ({"reduction": HALVED, "kd": DISTILLED}, 2),
    "curriculum.json": ({"bits": 4}, 16),
    "fp16_loss_scaling.json": ({"reduction": HALVED, "kd": DISTILLED}, 2),
    "monitors.json": ({}, 2),
    "warmup_decay.json": ({"bits": 2, "activation": None}, 3),
    "zero1_breakdown.json": ({"reduction": HALVED}, 2),
    "zero2_buckets.json": ({"bits": 1.58}, 3),
    "zero3_offload_bf16.json": ({"reduction": HALVED, "kd": DISTILLED}, 2),
    "zero_plus_plus.json": ({}, 2),
}
AUTO = "ordinary_huggingface_auto.json"


@pytest.fixture(scope="module", autouse=True)
def _fp16() -> Iterator[None]:
    torch.set_num_threads(1)
    with allow_fp16():
        yield


@pytest.fixture(autouse=True)
def _communication_is_logged_here_only() -> Iterator[None]:
    """The logger is one for the whole process."""
    from deepspeed.comm import comm

    was = comm.comms_logger.enabled
    yield
    comm.comms_logger.enabled = was


def with_block(name: str, folder: Path, added: dict[str, Any]) -> tuple[Path, Path]:
    """The config file as it was, and with the block pasted in before the last brace."""
    text = (CONFIGS / f"ordinary_{name}").read_text().replace("OUTPUT", str(folder))
    before, after = folder / f"before_{name}", folder / name
    before.write_text(text)
    comma = "" if name.endswith(".hjson") else ","
    after.write_text(f'{text.rstrip()[:-1]}{comma}\n"compression_training": {json.dumps(added)}\n}}\n')
    return before, after


def start(name: str, folder: Path, **arguments: Any) -> Any:
    before, after = with_block(name, folder, block(**BLOCKS[name][0]))
    model = arguments.pop("model", None) or tiny_model()
    optimizer = None if "optimizer" in read_config(before) else torch.optim.AdamW(model.parameters(), lr=1e-3)
    parameters = list(model.parameters()) if optimizer is None else None
    return xtc_ds.initialize(
        model=model, optimizer=optimizer, model_parameters=parameters, config=str(after), **arguments
    )[0]


def train(engine: Any, steps: int = 2) -> list[float]:
    engine.train()
    losses: list[float] = []
    goal = engine.xtc.schedule.step + steps
    while engine.xtc.schedule.step < goal:
        assert len(losses) < PATIENCE, losses
        loss = engine(**batch(seed=len(losses))).loss
        engine.backward(loss)
        engine.step()
        losses.append(float(loss.detach()))
    assert all(math.isfinite(loss) for loss in losses), losses
    return losses


@pytest.mark.parametrize("name", BLOCKS)
def test_deepspeeds_part_is_untouched_and_ours_is_in_force(name: str, tmp_path: Path) -> None:
    from deepspeed.runtime.config import DeepSpeedConfig

    engine = start(name, tmp_path)
    alone = DeepSpeedConfig(str(tmp_path / f"before_{name}"))
    assert engine._config._param_dict == alone._param_dict
    assert settings(engine._config) == settings(alone)
    before = [parameter.detach().clone() for parameter in engine.module.classifier.parameters()]
    train(engine, 3)  # the first may have a learning rate of 0
    levels = distinct_levels(engine)
    assert BLOCKS[name][1] / 2 < levels <= BLOCKS[name][1]
    engine.eval()
    with torch.no_grad():
        trained = engine(**batch(labels=False)).logits.float()
    shipped = xtc_ds.freeze(engine)(**batch(labels=False)).logits.float()
    torch.testing.assert_close(shipped, trained, rtol=0, atol=0.1 * float(trained.std()))
    if engine.zero_optimization_stage() < 3:
        after = list(engine.module.classifier.parameters())
        assert not all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def distinct_levels(engine: Any) -> int:
    """The most distinct values in a row of any compressed layer's weight, as it is in force."""
    found = []
    for _, layer in compressed_layers(engine.module):
        with gathered([layer.weight]), torch.no_grad():  # type: ignore[attr-defined]
            weight, _ = layer.in_force(layer.weight, None)  # type: ignore[attr-defined]
            found += [len(row.unique()) for row in weight]
    assert len(found) > 100
    return max(found)


def settings(config: Any) -> dict[str, str]:
    """Every setting that DeepSpeed read, as text."""
    return {key: repr(value) for key, value in vars(config).items() if "object at 0x" not in repr(value)}


def test_a_loss_scale_that_overflows_skips_the_step_of_both(tmp_path: Path) -> None:
    engine = start("fp16_loss_scaling.json", tmp_path)
    scales = []
    for _ in range(3):
        scales.append(engine.optimizer.loss_scale)
        engine.backward(engine(**batch()).loss * 1e30)
        engine.step()
    # hysteresis 2: the first overflow is forgiven
    assert scales == [2**16, 2**16, 2**15]
    assert (engine.skipped_steps, engine.global_steps, engine.xtc.schedule.step) == (3, 3, 0)
    train(engine, 1)
    assert engine.xtc.schedule.step == 1


def test_the_learning_rate_is_the_schedulers(tmp_path: Path) -> None:
    engine = start("warmup_decay.json", tmp_path)
    rates = []
    for _ in range(5):
        train(engine, 1)
        rates.append(engine.get_lr()[0])
    peak = 0.002
    assert rates == pytest.approx([0, peak / 3, 2 * peak / 3, peak, peak * 6 / 7])


def test_recomputed_activations_change_nothing(tmp_path: Path) -> None:
    model = tiny_model()
    model.gradient_checkpointing_enable()
    recomputing = train(start("activation_checkpointing.json", tmp_path, model=model), 3)
    assert recomputing == train(start("activation_checkpointing.json", tmp_path), 3)


def test_the_curriculum_orders_the_samples(tmp_path: Path) -> None:
    """The sampler's difficulty is the length of the sequences; DeepSpeed hands batches to a function of the script."""
    whole = batch(64, tokens=8)
    samples = [{key: tensor[row] for key, tensor in whole.items()} for row in range(64)]
    engine = start("curriculum.json", tmp_path, training_data=samples)
    engine.set_data_post_process_func(
        lambda data, state: {
            key: tensor[:, : state["current_difficulties"]["seqlen"]] if tensor.dim() > 1 else tensor
            for key, tensor in data.items()
        }
    )
    lengths = []
    for _, data in zip(range(4), engine.training_dataloader, strict=False):
        lengths.append(data["input_ids"].shape[1])
        engine.backward(engine(**data).loss)
        engine.step()
    assert engine.xtc.schedule.step == 4
    assert lengths == sorted(lengths) and lengths[0] < lengths[-1] == 8


def test_profiler_and_monitor_write_their_files(tmp_path: Path) -> None:
    train(start("monitors.json", tmp_path), 3)
    assert "fwd flops per GPU" in (tmp_path / "flops.txt").read_text()
    assert (tmp_path / "csv" / "run" / "Train_Samples_lr.csv").read_text().count("\n") >= 3


def test_auto_that_nobody_filled_is_refused_by_name() -> None:
    model = tiny_model()
    config = {**read_config(CONFIGS / AUTO), "compression_training": block()}
    with pytest.raises(ConfigError) as caught:
        xtc_ds.initialize(model=model, model_parameters=model.parameters(), config=config)
    message = str(caught.value)
    for key in ("train_batch_size", "gradient_clipping", "optimizer.params.lr", "scheduler.params.warmup_num_steps"):
        assert f'{key}: left at "auto"' in message
    # DeepSpeed reads these as its defaults.
    assert "zero_optimization" not in message and "fp16" not in message
    assert "HfTrainerDeepSpeedConfig" in message
    assert not any(True for _ in compressed_layers(model))


def test_auto_in_deepspeeds_own_blocks_is_its_default() -> None:
    config = read_config(CONFIGS / AUTO)
    config = {key: value for key, value in config.items() if value != "auto" and key not in ("optimizer", "scheduler")}
    config.update(train_batch_size=4, compression_training=block())
    model = tiny_model()
    optimizer = torch.optim.AdamW(model.parameters())
    engine = xtc_ds.initialize(model=model, optimizer=optimizer, config=config)[0]
    train(engine, 2)
    assert distinct_levels(engine) == 2


def test_auto_filled_by_transformers_trains(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="transformers fills DeepSpeed configs with accelerate's help")
    from transformers import TrainingArguments
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

    given = {**read_config(CONFIGS / AUTO), "compression_training": block()}
    ds_config, compression = xtc_ds.load_config(given)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=4, bf16=True, use_cpu=True, max_steps=4, warmup_steps=2
    )
    model = tiny_model()
    filled = HfTrainerDeepSpeedConfig(copy.deepcopy(ds_config))
    filled.trainer_config_process(arguments)
    filled.trainer_config_finalize(arguments, model, num_training_steps=4)
    config = {**filled.config, "compression_training": compression.to_dict()}
    config["optimizer"]["params"]["torch_adam"] = True
    engine = xtc_ds.initialize(model=model, model_parameters=model.parameters(), config=config)[0]
    train(engine, 2)
    assert engine.bfloat16_enabled()
    assert distinct_levels(engine) == 2


@pytest.mark.parametrize("text", ["1.0", "2e8", "1e-8", "-0.0", "1e9", "1.5", "1e22", "12345678901.0", "-1e2"])
def test_numbers_of_a_file_are_those_that_deepspeed_reads(text: str, tmp_path: Path) -> None:
    import hjson

    file = tmp_path / "ds.json"
    file.write_text(f'{{"x": {text}}}')
    (ours,), (deepspeeds,) = read_config(file).values(), hjson.loads(file.read_text()).values()
    assert (ours, type(ours)) == (deepspeeds, type(deepspeeds))
