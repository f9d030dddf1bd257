"""json_configs/: all valid, and their patterns fit every architecture they are meant for."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest
import transformers
from torch import nn
from transformers.pytorch_utils import Conv1D

from xtc_ds.config import load_config
from xtc_ds.techniques.activation_quantization.config import ActivationGroup
from xtc_ds.techniques.weight_quantization.config import WeightGroup

FOLDER = Path(__file__).parents[2] / "json_configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
SMALL: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 20,
}
MODELS = {
    "bert": lambda: transformers.BertConfig(**SMALL),
    "roberta": lambda: transformers.RobertaConfig(**SMALL),
    "distilbert": lambda: transformers.DistilBertConfig(dim=8, n_layers=2, n_heads=2, hidden_dim=16, vocab_size=20),
    "electra": lambda: transformers.ElectraConfig(embedding_size=4, **SMALL),
    "gpt2": lambda: transformers.GPT2Config(
        n_embd=8, n_layer=2, n_head=2, vocab_size=20, bos_token_id=0, eos_token_id=0
    ),
    "llama": lambda: transformers.LlamaConfig(num_key_value_heads=2, **SMALL),
}
HEADS = {"classifier", "classifier.out_proj", "score"}


@functools.cache
def modules_of(architecture: str) -> dict[str, type[nn.Module]]:
    model = transformers.AutoModelForSequenceClassification.from_config(MODELS[architecture]())  # type: ignore[no-untyped-call]
    kinds = (nn.Linear, nn.Embedding, Conv1D)
    return {name: type(module) for name, module in model.named_modules() if isinstance(module, kinds)}


def matched(group: WeightGroup | ActivationGroup, names: list[str]) -> list[str]:
    def hit(patterns: tuple[str, ...], name: str) -> bool:
        return any(pattern == "*" or re.search(pattern, name) for pattern in patterns)

    for pattern in group.modules:
        assert group.optional or any(hit((pattern,), name) for name in names), (group.path, pattern)
    for pattern in group.exclude:
        assert any(hit((pattern,), name) for name in names), (group.path, pattern)
    return [name for name in names if hit(group.modules, name) and not hit(group.exclude, name)]


def test_the_promised_configs_are_there() -> None:
    assert NAMES == [
        "layer_reduction",
        "quant_int4",
        "quant_int8",
        "xtc_1bit",
        "xtc_1bit_paper",
        "xtc_1bit_zero2",
        "xtc_1bit_zero3_bf16",
        "xtc_ternary",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_is_valid_without_warnings(name: str) -> None:
    ds_config, config = load_config(FOLDER / f"{name}.json")
    assert config.warnings == ()
    assert config.kd is not None
    assert not {"optimizer", "scheduler", "train_batch_size"} & set(ds_config)


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "xtc_1bit_paper"])
def test_covers_everything_but_the_head_once(name: str, architecture: str) -> None:
    _, config = load_config(FOLDER / f"{name}.json")
    kinds = modules_of(architecture)
    if not config.weight_quantization:
        return
    weights = [hit for group in config.weight_quantization for hit in matched(group, list(kinds))]
    assert sorted(weights) == sorted(set(kinds) - HEADS)
    activations = [hit for group in config.activation_quantization for hit in matched(group, list(kinds))]
    assert sorted(activations) == sorted(hit for hit in weights if kinds[hit] is not nn.Embedding)


def test_paper_config_is_for_bert() -> None:
    _, config = load_config(FOLDER / "xtc_1bit_paper.json")
    names = list(modules_of("bert"))
    (weights,), (activations,) = config.weight_quantization, config.activation_quantization
    assert len(matched(weights, names)) == 6 * 2 + 1
    assert len(matched(activations, names)) == 6 * 2
