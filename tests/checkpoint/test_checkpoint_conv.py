"""Convolutional networks, pruned or not, through freeze, file and load_into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import xtc_ds
from tests.checkpoint.pruned_models import IMAGES, Network, config, network, pruning
from xtc_ds.errors import ExportError, PlanError
from xtc_ds.layers import set_step
from xtc_ds.runtime import PackedConv2d

CHANNELS = pruning("channel", 0.5, "conv1", ["bn1", "conv2"])
FORMATS: list[dict[str, Any]] = [
    {"bits": 4},
    {"bits": 1, "activation": None},
    {"bits": 2, "export": "float16"},
    {"bits": 3, "shared": {"granularity": "row"}},
    {"bits": 8, "shared": {"quantize_groups": 8}, "activation": None},
    {"bits": 5, "shared": {"quantization_type": "asymmetric", "granularity": "row"}},
    {"bits": 4, "activation_shared": {"range_calibration": "static"}},
]


def compressed(*blocks: Any, affine: bool = True, **options: Any) -> tuple[Network, Any]:
    model = network(affine)
    plan = xtc_ds.compress(model, config(*blocks, quantized={"exclude": ["^head$"], "export": "float32", **options}))
    set_step(model, 1)
    if "activation_shared" in options:
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        model.train()
        for norm in norms:
            norm.eval()
        model(IMAGES)
    return model.eval(), plan


@torch.no_grad()
def outputs(model: nn.Module) -> torch.Tensor:
    result: torch.Tensor = model(IMAGES)
    return result


@pytest.mark.parametrize("options", FORMATS, ids=str)
def test_a_quantized_network_is_shipped_as_it_was_trained(options: dict[str, Any], tmp_path: Path) -> None:
    model, plan = compressed(**options)
    frozen = xtc_ds.freeze(model)
    report = xtc_ds.export_packed(frozen, tmp_path / "out")
    loaded = xtc_ds.load_into(Network(), tmp_path / "out")
    assert isinstance(loaded.stem, PackedConv2d)
    assert torch.equal(outputs(loaded), outputs(frozen))
    assert torch.allclose(outputs(frozen), outputs(model), atol=1e-2 if options.get("export") else 1e-5)
    assert report.tensor_bytes == plan.sizes.packed


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("options", FORMATS, ids=str)
def test_pruned_channels_are_gone_from_the_file(options: dict[str, Any], affine: bool, tmp_path: Path) -> None:
    model, plan = compressed(CHANNELS, pruning("sparse", 0.4, "conv2|stem"), affine=affine, **options)
    frozen: Any = xtc_ds.freeze(model)
    report = xtc_ds.export_packed(frozen, tmp_path / "out")
    loaded: Any = xtc_ds.load_into(Network(affine), tmp_path / "out")
    assert torch.equal(outputs(loaded), outputs(frozen))
    # The smallest change of an input may move its code by one.
    tolerance = 1e-5 if options.get("activation", 8) is None else 0.05
    assert torch.allclose(outputs(frozen), outputs(model), atol=tolerance)
    assert report.tensor_bytes == plan.sizes.packed
    for each in (frozen, loaded):
        assert each.layers[0].conv1.spec.shape == (8, 8, 3, 3)
        assert each.layers[1].conv2.spec.shape == (8, 8, 3, 3)
        assert each.layers[0].bn1.num_features == 8
        assert each.layers[0].bn1.running_var.shape == (8,)
    again = xtc_ds.export_packed(loaded, tmp_path / "again")
    assert (again.folder / "model.safetensors").read_bytes() == (tmp_path / "out" / "model.safetensors").read_bytes()


def test_what_stays_of_a_pruned_network_is_what_was_trained() -> None:
    model, _ = compressed(CHANNELS, bits=4)
    frozen: Any = xtc_ds.freeze(model)
    block, small = model.layers[0], frozen.layers[0]
    kept = block.conv1.channel_pruning_mask.flatten().bool()  # type: ignore[union-attr, operator]
    assert 0 < kept.sum() < len(kept)
    assert torch.equal(small.conv1.decoded(), block.conv1.in_force(block.conv1.weight, None)[0][kept])  # type: ignore[union-attr, operator]
    assert torch.equal(small.conv2.decoded(), block.conv2.in_force(block.conv2.weight, None)[0][:, kept])  # type: ignore[union-attr, operator]
    for key in ("weight", "bias", "running_mean", "running_var"):
        assert torch.equal(getattr(small.bn1, key), getattr(block.bn1, key)[kept])
    assert torch.equal(small.bn2.running_mean, block.bn2.running_mean)


@pytest.mark.parametrize("affine", [True, False])
def test_channels_go_without_a_trace_whatever_a_norm_made_of_them(affine: bool) -> None:
    model = network(affine)
    xtc_ds.compress(model, config(CHANNELS))
    set_step(model, 1)
    gone = ~model.layers[0].conv1.channel_pruning_mask.flatten().bool()  # type: ignore[union-attr, operator]
    norm: Any = model.layers[0].bn1
    assert bool((norm(torch.zeros(1, 16, 1, 1)).flatten()[gone] != 0).any())
    assert torch.allclose(outputs(xtc_ds.freeze(model)), outputs(model), atol=1e-6)


def test_without_related_modules_the_channels_stay_as_zeros() -> None:
    model, plan = compressed(pruning("channel", 0.5, "stem|conv1"), bits=4)
    frozen: Any = xtc_ds.freeze(model)
    assert torch.equal(outputs(frozen), outputs(model))
    zero = frozen.stem.decoded().flatten(1).abs().sum(1) == 0
    assert int(zero.sum()) == 4
    assert torch.equal(frozen.stem.bias == 0, zero)
    assert plan.sizes.packed < plan.sizes.original / 3


def test_another_network_is_refused_and_left_alone(tmp_path: Path) -> None:
    model, _ = compressed(CHANNELS, bits=4)
    xtc_ds.export_packed(model, tmp_path / "out")
    other = Network()
    other.layers[1].bn1 = nn.BatchNorm2d(7)
    before = {name: id(module) for name, module in other.named_modules()}
    with pytest.raises(ExportError, match=r"pruned from 'layers.1.bn1' of shape \(16,\); the model's is \(7,\)"):
        xtc_ds.load_into(other, tmp_path / "out")
    assert {name: id(module) for name, module in other.named_modules()} == before
    other.layers[1].bn1 = nn.Identity()
    with pytest.raises(ExportError, match=r"a smaller BatchNorm2d 'layers.1.bn1'; this model \(Network\) has a Ident"):
        xtc_ds.load_into(other, tmp_path / "out")
    assert other.stem.weight.shape == (8, 3, 3, 3)


@torch.no_grad()
def test_a_pruned_resnet_of_transformers_loads_from_its_folder(tmp_path: Path) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    shape = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)
    model, x = ResNetForImageClassification(shape).eval(), torch.randn(2, 3, 32, 32)
    related = ["layer.0.normalization", "layer.1.convolution"]
    blocks = pruning("channel", 0.5, "layer.0.convolution", related)
    plan = xtc_ds.compress(model, config(blocks, quantized={"bits": 4, "modules": ["encoder"], "exclude": []}))
    frozen: Any = xtc_ds.freeze(model)
    report = xtc_ds.export_packed(frozen, tmp_path / "out")
    loaded: Any = xtc_ds.load(tmp_path / "out")
    assert torch.equal(loaded(x).logits, frozen(x).logits)
    assert report.tensor_bytes == plan.sizes.packed
    half: Any = xtc_ds.load(tmp_path / "out", dtype=torch.bfloat16)
    assert torch.allclose(half(x.bfloat16()).logits.float(), frozen(x).logits, atol=0.05)


@torch.no_grad()
def test_a_vision_transformer_loses_heads_but_keeps_its_first_convolution(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 16, "patch_size": 4}
    model, x = ViTForImageClassification(ViTConfig(num_hidden_layers=2, **sizes)).eval(), torch.randn(2, 3, 16, 16)
    heads = pruning("head", 0.5, "o_proj", ["q_proj", "k_proj", "v_proj"], num_heads=4)
    # The model casts its input to the dtype of this weight, from far above it.
    with pytest.raises(PlanError, match=r"projection' has its weight read directly by ViTModel.forward; exclude it"):
        xtc_ds.compress(model, config(heads, quantized={"exclude": ["classifier"]}))
    xtc_ds.compress(model, config(heads, quantized={"exclude": ["classifier", "projection"]}))
    frozen: Any = xtc_ds.freeze(model)
    xtc_ds.export_packed(frozen, tmp_path / "out")
    assert torch.equal(xtc_ds.load(tmp_path / "out")(x).logits, frozen(x).logits)
    assert frozen.vit.layers[1].attention.q_proj.spec.shape == (16, 32)
