"""The fused runtime: whole layers on the kernel, and all that must stay as if they were not."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import xtc_ds
from tests.tiny import batch, block, tiny_model
from xtc_ds.kernels.encoder import encoder_kernel_works
from xtc_ds.runtime.fused_layer import KEPT, FusedEncoder, FusedLayer

if not encoder_kernel_works(torch.zeros(1)):
    pytest.skip("needs a processor with AVX-512 VNNI and a C compiler", allow_module_level=True)


def packed(folder: Path, kind: str = "bert", **options: Any) -> Path:
    model = tiny_model(kind, layers=2, hidden_size=64).eval()
    xtc_ds.compress(model, xtc_ds.parse_block(block(exclude=["^classifier$"], **options)))
    xtc_ds.export_packed(model, folder)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return xtc_ds.load(packed(tmp_path / "packed"), runtime="fused")


def parts(model: nn.Module, kind: type) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, kind)]


@torch.no_grad()
def logits(model: nn.Module, **inputs: Tensor) -> Tensor:
    result: Tensor = model(**(inputs or batch(labels=False))).logits
    return result


def ran_whole(model: nn.Module) -> bool:
    """Whether the last forward took the layers whole; forgets it."""
    kept = [layer.__dict__.pop(KEPT, None) for layer in parts(model, FusedLayer)]
    return None not in kept


def module_by_module(model: nn.Module) -> Tensor:
    """The logits with a hook in every layer, which keeps the kernel from taking it whole."""
    hooks = [layer.intermediate.register_forward_hook(lambda *_: None) for layer in parts(model, FusedLayer)]
    result = logits(model)
    for hook in hooks:
        hook.remove()
    assert not ran_whole(model)
    return result


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
@pytest.mark.parametrize("bits", [1, 2, 8])
def test_whole_layers_give_the_bits_of_their_modules(kind: str, bits: int, tmp_path: Path) -> None:
    model = xtc_ds.load(packed(tmp_path / "packed", kind, bits=bits), runtime="fused")
    assert len(parts(model, FusedLayer)) == 2
    assert len(parts(model, FusedEncoder)) == 1
    expected = module_by_module(model)
    assert torch.equal(logits(model), expected)
    assert ran_whole(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(logits(twin), expected)
        assert ran_whole(twin)


def test_hidden_states_are_collected(model: Any) -> None:
    expected = logits(model)
    with torch.no_grad():
        found = model(**batch(labels=False), output_hidden_states=True)
    assert torch.equal(found.logits, expected)
    assert len(found.hidden_states) == 3
    assert ran_whole(model)


def test_a_hook_in_a_layer_is_called(model: Any) -> None:
    expected, seen = logits(model), []
    dense = parts(model, FusedLayer)[1].attention.output.dense
    hook = dense.register_forward_hook(lambda module, args, y: seen.append(y.shape))
    assert torch.equal(logits(model), expected)
    assert len(seen) == 1
    hook.remove()
    # One that changes what comes out is heard as well.
    with dense.register_forward_pre_hook(lambda module, args: (2 * args[0],)):
        assert not torch.equal(logits(model), expected)
    assert torch.equal(logits(model), expected)


def test_what_changes_in_a_layer_is_seen(model: Any) -> None:
    before = logits(model)
    layer = parts(model, FusedLayer)[0]
    with torch.no_grad():
        layer.output.LayerNorm.weight.mul_(2)
        layer.attention.self.query.weight_scale.mul_(3)
    changed = logits(model)
    assert not torch.equal(changed, before)
    assert ran_whole(model)
    assert torch.equal(changed, module_by_module(model))
    layer.output.dense = nn.Linear(layer.output.dense.in_features, 64)
    assert torch.equal(logits(model), module_by_module(model))
    assert not ran_whole(model)


def test_dropout_in_training_falls(model: Any) -> None:
    expected = logits(model)
    parts(model, FusedLayer)[0].attention.output.dropout.train().p = 0.5
    assert not torch.equal(logits(model), expected)


def test_gradients_pass(model: Any) -> None:
    model(**batch()).loss.backward()
    assert model.classifier.weight.grad.abs().sum() > 0
    assert not ran_whole(model)


def test_padding_is_not_seen(model: Any) -> None:
    inputs = batch(labels=False)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["attention_mask"][:, -3:] = 0
    found = logits(model, **inputs)
    inputs["input_ids"][:, -3:] = 1
    assert torch.equal(logits(model, **inputs), found)
    assert ran_whole(model)


def test_layers_that_are_normalized_before_are_left_alone() -> None:
    from transformers import XLMRobertaXLConfig, XLMRobertaXLForSequenceClassification

    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = XLMRobertaXLForSequenceClassification(XLMRobertaXLConfig(vocab_size=50, pad_token_id=0, **sizes)).eval()
    xtc_ds.compress(model, xtc_ds.parse_block(block(exclude=["^classifier"])))
    frozen = xtc_ds.freeze(model)
    ids = torch.randint(2, 50, (2, 20))
    expected = logits(frozen, input_ids=ids)
    xtc_ds.set_runtime(frozen, "fused")
    assert torch.allclose(logits(frozen, input_ids=ids), expected, atol=0.05 * float(expected.abs().max()))
