"""The engine on one rank: what goes in, what comes out, what is refused."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import xtc_ds
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.errors import ConfigError, EngineError, XtcError
from xtc_ds.layers import compressed_layers

pytestmark = pytest.mark.usefixtures("single_process_group")

GOLDEN = Path(__file__).with_name("golden_losses.json")
KD = {"teacher": "self", "temperature": 2.0}
ADAM = {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}}
FALLING = {"params": {"target_bits": 2, "start_bits": 8, "quantization_period": 1}, "bits": 8}


def config(optimizer: bool = True, extra: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    more = {"optimizer": ADAM, "zero_force_ds_cpu_optimizer": False} if optimizer else {}
    return ds_config(block(**options), **more, **(extra or {}))


def start(model: Any = None, **arguments: Any) -> Any:
    model = tiny_model() if model is None else model
    arguments.setdefault("config", config(reduction={"keep_number_layer": 2}, kd=KD))
    if arguments.get("optimizer") is None:
        arguments.setdefault("model_parameters", list(model.parameters()))
    return xtc_ds.initialize(model=model, **arguments)[0]


def train(engine: Any, steps: int, first: int = 0) -> list[float]:
    engine.train()
    losses = []
    for step in range(first, first + steps):
        loss = engine(**batch(seed=step % 3)).loss
        engine.backward(loss)
        engine.step()
        losses.append(float(loss.detach()))
    return losses


def untouched(model: nn.Module) -> bool:
    return not any(True for _ in compressed_layers(model)) and len(model.bert.encoder.layer) == 4  # type: ignore[union-attr, operator, arg-type]


def test_initialize_returns_what_deepspeeds_does() -> None:
    import deepspeed

    model = tiny_model()
    data = [{"x": torch.zeros(1)}] * 8
    engine, optimizer, loader, scheduler = xtc_ds.initialize(
        None, model, None, list(model.parameters()), data, config=config()
    )
    assert isinstance(engine, deepspeed.DeepSpeedEngine)
    assert engine.module is model
    assert optimizer is engine.optimizer
    assert len(loader) == 2
    assert scheduler is None


def test_the_callers_dict_stays_and_deepspeed_never_sees_the_block() -> None:
    given = config(reduction={"keep_number_layer": 2}, kd=KD)
    before = copy.deepcopy(given)
    engine = start(config=given)
    assert given == before
    assert "compression_training" not in engine._config._param_dict


def test_one_config_from_the_arguments_or_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "ds.hjson"
    path.write_text("# HJSON may hold comments\n" + json.dumps(config()))
    arguments = SimpleNamespace(deepspeed_config=str(path), local_rank=0)
    engine = start(args=arguments, config=None)
    assert any(True for _ in compressed_layers(engine.module))
    assert arguments.deepspeed_config == str(path)
    with pytest.raises(ConfigError, match=r"more than one DeepSpeed config: config and args.deepspeed_config"):
        start(args=arguments, config=config())
    with pytest.raises(ConfigError, match="no DeepSpeed config"):
        start(args=SimpleNamespace(local_rank=0), config=None)


def test_distillation_without_a_teacher_is_refused_before_the_model_is_changed() -> None:
    model = tiny_model()
    with pytest.raises(ConfigError, match=r"compression_training.kd.teacher: distillation needs a teacher"):
        start(model, config=config(reduction={"keep_number_layer": 2}, kd={"temperature": 1.0}))
    assert untouched(model)


def test_a_teacher_that_shares_parameters_is_refused_and_nothing_is_frozen() -> None:
    model = tiny_model()
    teacher = copy.copy(model)
    teacher._modules = dict(model._modules)
    with pytest.raises(XtcError, match="share the parameter"):
        start(model, teacher=teacher)
    assert untouched(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


class Mlp(nn.Module):
    """No transformer: no stack of layers, no attention to observe."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.head(self.body(x).relu())}


class Stacked(Mlp):
    """A stack of layers, but no attention to observe."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 8)) for _ in range(2))


def test_attention_that_cannot_be_observed_is_refused_before_the_model_is_changed() -> None:
    model = Stacked()
    with pytest.raises(XtcError, match='attention of Stacked cannot be observed.*"attention_weight": 0'):
        start(model, config=config(exclude=[], kd=KD))
    assert not any(True for _ in compressed_layers(model))
    assert not model._forward_hooks


def test_logits_alone_can_be_distilled_without_a_stack_of_layers() -> None:
    engine = start(Mlp(), config=config(exclude=[], kd={**KD, "hidden_weight": 0, "attention_weight": 0}))
    loss = engine(x=torch.randn(4, 8))["loss"]
    engine.backward(loss)
    engine.step()
    assert engine.xtc.schedule.step == 1


def test_pipeline_modules_are_refused() -> None:
    from deepspeed.pipe import PipelineModule

    model = PipelineModule([nn.Linear(8, 8)], num_stages=1)
    with pytest.raises(EngineError, match="pipeline modules .* train the plain model with ZeRO instead"):
        start(model, config=config())


def test_a_skipped_step_does_not_advance_the_schedule() -> None:
    bf16 = {"bf16": {"enabled": True, "check_grad_overflow": True}, "zero_optimization": {"stage": 1}}
    engine = start(config=config(extra=bf16, kd=KD, **FALLING))
    train(engine, 1)
    assert engine.xtc.schedule.bits()["weights"]["all"] == 7
    weight = engine.module.classifier.weight
    before = weight.detach().clone()
    engine.backward(engine(**batch()).loss * float("inf"))
    engine.step()
    assert engine.skipped_steps == 1
    assert torch.equal(weight, before)
    assert (engine.global_steps, engine.xtc.schedule.step) == (2, 1)
    assert engine.xtc.schedule.bits()["weights"]["all"] == 7
    train(engine, 1)
    assert engine.xtc.schedule.step == 2


def layerwise_optimizer(model: Any) -> torch.optim.AdamW:
    """A group for the first layer, which is dropped, one for the rest, and one for a learned loss weight."""
    first = list(model.bert.encoder.layer[0].parameters())
    ids = {id(parameter) for parameter in first}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in ids]
    outside = nn.Parameter(torch.zeros(1))
    groups: list[dict[str, Any]] = [
        {"params": first, "lr": 1e-5},
        {"params": rest, "lr": 1e-3},
        {"params": [outside], "lr": 1e-1},
    ]
    return torch.optim.AdamW(groups)


def test_an_optimizer_and_a_scheduler_built_before_follow_the_dropped_layers() -> None:
    model = tiny_model()
    optimizer = layerwise_optimizer(model)
    outside = optimizer.param_groups[2]["params"][0]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda _: 1.0, lambda _: 0.5, lambda _: 2.0])
    groups = optimizer.param_groups
    engine = start(
        model,
        optimizer=optimizer,
        lr_scheduler=scheduler,
        config=config(optimizer=False, reduction={"keep_number_layer": 2}, kd=KD),
    )
    assert engine.xtc.plan.reduction.kept == (1, 3)
    assert optimizer.param_groups is groups
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    assert trained == {id(parameter) for parameter in model.parameters()} | {id(outside)}
    losses = train(engine, 4)
    assert losses[3] < losses[0]
    assert [group["lr"] for group in groups] == pytest.approx([5e-4, 2e-1])


def test_named_parameters_and_groups_follow_the_dropped_layers() -> None:
    from xtc_ds.engine.optimizers import dropped_parameters, follow_optimizer, follow_parameters

    model = tiny_model()
    before = list(model.parameters())
    pairs = list(model.named_parameters())
    groups = [{"params": model.bert.encoder.layer[0].parameters()}, {"params": model.classifier.weight}]
    named = torch.optim.AdamW(pairs)
    xtc_ds.compress(model, config(reduction={"keep_number_layer": 2}))
    dropped = dropped_parameters(before, model)
    living = list(model.parameters())
    assert [id(p) for _, p in follow_parameters(pairs, model, dropped)] == [id(p) for p in living]
    [kept] = follow_parameters(groups, model, dropped)
    assert kept["params"][0] is model.classifier.weight
    follow_optimizer(named, model, dropped)
    assert len(named.param_groups[0]["param_names"]) == len(named.param_groups[0]["params"]) == len(living)


def test_the_projection_is_trained_by_an_optimizer_built_before() -> None:
    model, teacher = tiny_model(), tiny_model(hidden_size=48)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    engine = start(
        model, teacher=teacher, optimizer=optimizer, lr_scheduler=scheduler, config=config(optimizer=False, kd=KD)
    )
    before = model.xtc_projection.weight.detach().clone()
    train(engine, 1)
    assert not torch.equal(model.xtc_projection.weight, before)


def test_a_teacher_may_be_a_folder(tmp_path: Path) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path / "teacher")
    by_folder = start(copy.deepcopy(model), teacher=str(tmp_path / "teacher"))
    in_config = config(reduction={"keep_number_layer": 2}, kd={**KD, "teacher": str(tmp_path / "teacher")})
    by_config, by_copy = start(copy.deepcopy(model), config=in_config), start(copy.deepcopy(model))
    curves = [train(engine, 2) for engine in (by_folder, by_config, by_copy)]
    assert curves[0] == pytest.approx(curves[2])
    assert curves[1] == pytest.approx(curves[2])


def test_a_teacher_that_starts_the_layers_is_given_back_as_it_was() -> None:
    teacher = tiny_model().train()
    start(tiny_model(), teacher=teacher, config=config(reduction={"keep_number_layer": 2}))
    assert teacher.training
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    assert untouched(teacher)


def test_a_teacher_without_use_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "xtc_ds"):
        start(teacher=tiny_model(), config=config())
    assert "the teacher is not used" in caplog.text


def test_hard_labels_are_weighted_in() -> None:
    parts = {"logits_weight": 0, "hidden_weight": 0, "attention_weight": 0, "hard_label_weight": 0.5}
    engine = start(config=config(kd={**KD, **parts}))
    loss = engine(**batch()).loss.detach()
    engine.eval()
    plain = engine(**batch()).loss.detach()
    assert float(loss) == pytest.approx(0.5 * float(plain))
    assert engine.xtc.loss_parts()["hard"] == pytest.approx(float(plain))


def test_an_engine_without_an_optimizer_evaluates() -> None:
    engine = start(config=config(optimizer=False), model_parameters=None)
    engine.eval()
    with torch.no_grad():
        compressed = engine(**batch()).logits
    assert not torch.allclose(compressed, tiny_model()(**batch()).logits, atol=1e-3)
    assert xtc_ds.freeze(engine)(**batch()).logits == pytest.approx(compressed, abs=1e-2)


def test_static_ranges_are_in_the_state_and_come_back(tmp_path: Path) -> None:
    static = {"activation_shared": {"range_calibration": "static"}}
    engine = start(config=config(**static))
    train(engine, 2)
    engine.save_checkpoint(str(tmp_path))
    ranges = {n: b.clone() for n, b in engine.module.state_dict().items() if n.endswith("x_min_max")}
    again = start(config=config(**static))
    again.load_checkpoint(str(tmp_path))
    assert len(ranges) > 10
    assert all(torch.equal(again.module.state_dict()[name], value) for name, value in ranges.items())
    again.eval()
    assert torch.isfinite(again(**batch()).logits).all()


def test_a_checkpoint_of_another_block_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = start(config=config(**FALLING))
    train(engine, 2)
    engine.save_checkpoint(str(tmp_path))
    with caplog.at_level(logging.WARNING, "xtc_ds"):
        same = start(config=config(**FALLING))
        same.load_checkpoint(str(tmp_path))
        assert not caplog.records
        other = start(config=config(bits=1))
        other.load_checkpoint(str(tmp_path))
    assert "was trained with another compression_training block" in caplog.text
    assert (same.xtc.schedule.step, other.xtc.schedule.step) == (2, 2)


def test_weights_alone_of_a_checkpoint_bring_the_schedule_along(tmp_path: Path) -> None:
    engine = start(config=config(**FALLING))
    train(engine, 2)
    engine.save_checkpoint(str(tmp_path))
    again = start(config=config(**FALLING))
    again.load_checkpoint(str(tmp_path), load_module_only=True)
    assert again.xtc.schedule.step == 2
    train(again, 1)
    assert again.xtc.schedule.step == 3


def test_a_checkpoint_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    engine = start(config=config(**FALLING))
    train(engine, 1)
    assert engine.load_checkpoint(str(tmp_path)) == (None, None)
    assert engine.xtc.schedule.step == 1


def test_the_loss_curve_is_the_known_one() -> None:
    """Losses of 10 steps. A change that means to alter them replaces the file by what this test prints."""
    torch.set_num_threads(1)
    losses = train(start(config=config(reduction={"keep_number_layer": 2}, kd=KD, **FALLING)), 10)
    assert losses == pytest.approx(json.loads(GOLDEN.read_text()), abs=1e-4), json.dumps(losses)


def test_what_deepspeed_refuses_is_refused_before_the_model_is_changed(single_process_group: None) -> None:
    model = tiny_model()
    kinds = {name: type(module) for name, module in model.named_modules()}
    config = ds_config(block(), train_batch_size=64, gradient_accumulation_steps=3)
    with pytest.raises(ConfigError, match="DeepSpeed refuses the config: .*train_batch_size"):
        xtc_ds.initialize(model=model, config=config)
    assert {name: type(module) for name, module in model.named_modules()} == kinds
