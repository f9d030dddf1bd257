"""What reads pruned rows or channels computes as if they were gone already, as they will be in the frozen model."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

import xtc_ds
from tests.pruning.configs import pruning
from tests.pruning.masks import kept_units, pruning_rows
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.freezing.bake import bake
from xtc_ds.layers import CompressedLayer, set_step

METHODS = pytest.mark.parametrize("method", ["l1", "topk"])


class Net(nn.Module):
    """Two convolutions around a norm that makes a constant of zeros, and two linear layers around a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 6, 3, padding=1, padding_mode="circular")
        self.wide: nn.Module = nn.Linear(6, 8)
        self.narrow: nn.Module = nn.Linear(8, 3)
        nn.init.constant_(self.bn1.bias, 0.5)

    def stem(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn1(self.conv1(x)))

    def head(self, x: Tensor) -> Tensor:
        x = self.conv2(x).mean((2, 3))
        y: Tensor = self.narrow(torch.sigmoid(self.wide(x)))
        return y

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x))


def net(kind: str = "Linear") -> Net:
    torch.manual_seed(0)
    model = Net()
    for _ in range(3):
        model(images())
    if kind == "Conv1D":
        model.wide, model.narrow = Conv1D(8, 6), Conv1D(3, 8)
        nn.init.normal_(model.wide.weight)  # type: ignore[arg-type]
    return model


def images(seed: int = 1) -> Tensor:
    return torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(seed))


def prunings(method: str, related: bool = True, offset: int = 0) -> dict[str, Any]:
    groups: list[Any] = [(["^conv1$"], {"dense_ratio": 0.5}), (["^wide$"], {"dense_ratio": 0.5})]
    if related:
        groups = [(*groups[0], [["^bn1$", "^conv2$"]]), (*groups[1], [["^narrow$"]])]
    return {
        **pruning("channel_pruning", {"g": groups[0]}, method=method, schedule_offset=offset),
        **pruning("row_pruning", {"g": groups[1]}, method=method, schedule_offset=offset),
    }


def compressed(method: str, quantized: dict[str, Any] | None = None, kind: str = "Linear", **options: Any) -> Any:
    model: Any = net(kind)
    blocks = {} if quantized is None else block(modules=["conv|wide|narrow"], exclude=[], **quantized)
    torch.manual_seed(2)
    compression = {"export": {"float_dtype": "float32"}, **blocks, **prunings(method, **options)}
    xtc_ds.compress(model, ds_config(compression))
    set_step(model, 5)
    return model


def kept(layer: CompressedLayer) -> Tensor:
    return kept_units(layer, pruning_rows(layer)[0])  # type: ignore[arg-type]


@METHODS
@pytest.mark.parametrize("kind", ["Linear", "Conv1D"])
@torch.no_grad()
def test_what_is_frozen_computes_what_was_trained(method: str, kind: str) -> None:
    model, x = compressed(method, kind=kind).eval(), images()
    expected = model(x)
    # Without the mask on their input the readers would see constants.
    assert bool((model.stem(x)[:, ~kept(model.conv1)] != 0).all())
    assert torch.allclose(xtc_ds.freeze(model)(x), expected, atol=1e-6)
    bake(model)
    assert type(model.conv2) is nn.Conv2d
    assert not {"weight_transforms", "input_transforms", "unit_mask"} & {*vars(model.conv2), *vars(model.conv1)}
    assert torch.allclose(model(x), expected, atol=1e-6)


@METHODS
def test_readers_see_zeros_in_training_and_evaluation(method: str) -> None:
    model = compressed(method)
    for mode in (True, False):
        model.train(mode)
        outputs = []
        for value in (0.5, 7.0):
            with torch.no_grad():
                model.bn1.bias[~kept(model.conv1)] = value
            outputs.append(model(images()))
        assert torch.equal(outputs[0], outputs[1])
        assert not torch.equal(outputs[0], net().train(mode)(images()))


@METHODS
def test_nothing_is_masked_before_the_offset(method: str) -> None:
    model = compressed(method, offset=3)
    for step, dense in ((2, True), (3, False)):
        set_step(model, step)
        assert torch.equal(model.eval()(images()), net().eval()(images())) == dense


@METHODS
def test_without_related_modules_readers_stay_as_they_are(method: str) -> None:
    model = compressed(method, related=False)
    assert (type(model.conv2), type(model.narrow)) == (nn.Conv2d, nn.Linear)


def test_readers_add_nothing_to_the_state() -> None:
    names = set(net().state_dict())
    assert set(compressed("l1").state_dict()) - names == {"conv1.channel_pruning_mask", "wide.row_pruning_mask"}
    assert set(compressed("topk").state_dict()) - names == {"conv1.channel_mask_scores", "wide.row_mask_scores"}
    assert len(list(compressed("l1").modules())) == len(list(net().modules()))


def checkpointed(model: Net, where: str, reentrant: bool) -> Any:
    """The model's forward with its first half, its second one or both computed anew in the backward pass."""

    def run(x: Tensor) -> Any:
        for name, part in (("stem", model.stem), ("head", model.head)):
            x = checkpoint(part, x, use_reentrant=reentrant) if where in (name, "both") else part(x)
        return x

    return run


def gradients(model: Any, run: Any) -> dict[str, Tensor]:
    # Norms that count every forward would count a recomputed one twice.
    model.bn1.eval()
    run(images().requires_grad_()).square().sum().backward()
    return {name: p.grad for name, p in model.named_parameters()}


@METHODS
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("where", ["stem", "head", "both"])
def test_gradients_are_the_same_with_checkpointing(method: str, where: str, reentrant: bool) -> None:
    model = compressed(method)
    expected = gradients(model, model)
    again = compressed(method)
    found = gradients(again, checkpointed(again, where, reentrant))
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, atol=1e-6), name


def test_scores_of_pruned_units_go_on_learning() -> None:
    model = compressed("topk")
    model(images()).square().sum().backward()
    for layer, scores in ((model.conv1, "channel_mask_scores"), (model.wide, "row_mask_scores")):
        gradient = getattr(layer, scores).grad.flatten()
        assert bool((gradient[~kept(layer)] != 0).any())
        assert bool((layer.weight.grad[~kept(layer)] == 0).all())
        # What is pruned does not move what stays.
    assert bool((model.conv2.weight.grad[:, ~kept(model.conv1)] == 0).all())
    # A unit that wins gets its place at once.
    before = kept(model.wide)
    with torch.no_grad():
        model.wide.row_mask_scores.neg_()
        assert not torch.equal(kept(model.wide), before)
        model.eval()
        assert torch.allclose(xtc_ds.freeze(model)(images()), model(images()), atol=1e-6)


def test_no_gradient_goes_to_units_that_a_fixed_mask_took_out() -> None:
    model = compressed("l1")
    model(images()).square().sum().backward()
    for gradient in (model.bn1.bias.grad, model.bn1.weight.grad):
        assert torch.equal(gradient != 0, kept(model.conv1))


@METHODS
def test_a_copys_readers_follow_the_copy(method: str) -> None:
    model = compressed(method)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)]
    twins.append(xtc_ds.snapshot(model))
    set_step(model, 0)
    for twin in twins:
        assert torch.equal(twin.eval()(images()), compressed(method).eval()(images()))
        assert twin.conv2.input_transforms[0].source is twin.conv1
        assert twin.narrow.input_transforms[0].source is twin.wide


QUANTIZED: list[dict[str, Any]] = [
    {"bits": 8, "activation_shared": {"quantization_type": kind, "range_calibration": calibration}}
    for kind in ("asymmetric", "symmetric")
    for calibration in ("dynamic", "static")
]


@METHODS
@pytest.mark.parametrize("options", QUANTIZED, ids=lambda options: "-".join(options["activation_shared"].values()))
@torch.no_grad()
def test_inputs_from_pruned_units_do_not_widen_the_range(method: str, options: dict[str, Any]) -> None:
    model = compressed(method, quantized={**options, "activation": 4, "export": "float32"})
    # All that stays is positive: with the zeros of what is pruned the range would be another one.
    model.bn1.weight.fill_(0.05)
    model.bn1.bias.fill_(3.0)
    if options["activation_shared"]["range_calibration"] == "static":
        model.bn1.eval()
        model.train(mode=True)(images())
        model.bn1.running_mean.zero_()
        low = model.conv2.activation_quantizer.x_min_max[0]
        assert float(low) > 0
    model.eval()
    frozen = xtc_ds.freeze(model)
    for seed in range(1, 6):
        assert torch.allclose(frozen(images(seed)), model(images(seed)), atol=1e-4)
    # One sample without a batch.
    inner = torch.rand(8, 6, 6)
    expected = frozen.conv2(inner[kept(model.conv1)])  # type: ignore[operator]
    assert torch.allclose(model.conv2(inner), expected, atol=1e-5)


@pytest.mark.parametrize("stage", [0, 3])
@METHODS
def test_under_the_engine(method: str, stage: int, single_process_group: None) -> None:
    model = tiny_model(layers=2, hidden_act="sigmoid", num_attention_heads=4)
    rows = pruning(
        "row_pruning",
        {"g": (["intermediate"], {"dense_ratio": 0.5}, [[r"layer\.\d+\.output\.dense"]])},
        method=method,
        schedule_offset=1,
    )
    model.gradient_checkpointing_enable()
    config = ds_config(
        {"export": {"float_dtype": "float32"}, **rows},
        zero_optimization={"stage": stage, "stage3_param_persistence_threshold": 0},
        optimizer={"type": "AdamW", "params": {"lr": 0.2, "torch_adam": True}},
        zero_force_ds_cpu_optimizer=False,
    )
    engine: Any = xtc_ds.initialize(model=model, config=config)[0]
    masks = []
    for seed in range(4):
        engine.train()
        engine.backward(engine(**batch(seed=seed)).loss)
        engine.step()
        layer = model.bert.encoder.layer[0].intermediate.dense
        masks.append(kept(layer).tolist())
    engine.eval()
    inputs = batch(labels=False, seed=9)
    with torch.no_grad():
        assert torch.allclose(xtc_ds.freeze(engine)(**inputs).logits, engine(**inputs).logits, atol=1e-5)
    # Learned masks move, fixed ones do not.
    assert (masks[0] != masks[-1]) == (method == "topk")
    engine.destroy()
