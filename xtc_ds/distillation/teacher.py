"""Load a teacher from a path or hub id, and refuse one that cannot teach this student."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers.integrations import deepspeed as hf_deepspeed

from xtc_ds.distillation.model_config import config_value
from xtc_ds.distillation.teacher_class import teacher_class
from xtc_ds.errors import TeacherError

__all__ = ["load_teacher"]


def load_teacher(spec: str, student_like: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Load the model at ``spec`` (a folder or hub id) with the same kind of head as the student; frozen, in eval mode.

    student_like: determines the head, and the number of labels and vocabulary size that the teacher must have; may be
        on the meta device.
    dtype: dtype of the teacher's parameters.

    Raises TeacherError if the folder or id cannot be read, if tensors are missing (a head would start from random
    numbers), or if labels or vocabulary differ.
    """
    folder = Path(spec).expanduser()
    if spec.strip() and folder.is_dir():
        source = str(folder)
    elif folder.exists() or _looks_like_path(spec):
        raise TeacherError(f"teacher '{spec}': no such folder")
    else:
        source = spec
    with _whole_weights():
        config = _try(spec, lambda: transformers.AutoConfig.from_pretrained(source))
        _check_config(spec, config, student_like)
        kind = teacher_class(config, student_like)
        teacher, report = _try(
            spec,
            lambda: kind.from_pretrained(source, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True),
        )
    _check_loaded(spec, report, type(teacher).__name__)
    assert isinstance(teacher, nn.Module)
    return teacher.requires_grad_(False).eval()


def _looks_like_path(spec: str) -> bool:
    return not spec.strip() or spec.startswith((".", "/", "~")) or spec.count("/") > 1 or "\\" in spec


def _check_config(spec: str, config: Any, student: nn.Module) -> None:
    pairs = [("vocab_size", "tokens in the vocabulary")]
    if any(kind.__name__.endswith("Classification") for kind in type(student).__mro__):
        pairs.append(("num_labels", "labels"))
    for name, words in pairs:
        theirs, ours = getattr(config, name, None), config_value(student, name)
        if theirs is not None and ours is not None and theirs != ours:
            raise TeacherError(
                f"teacher '{spec}' has {theirs} {words}, the student {ours}; "
                "distillation needs a teacher fine-tuned for the same task with the same tokenizer"
            )


def _check_loaded(spec: str, report: dict[str, Any], kind: str) -> None:
    for key, words in (("missing_keys", "has no"), ("mismatched_keys", "has another shape of")):
        names = sorted(str(entry[0] if isinstance(entry, tuple) else entry) for entry in report.get(key, ()))
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise TeacherError(
                f"teacher '{spec}' {words} {', '.join(names[:3])}{more}, so a {kind} would start from random numbers; "
                "give a checkpoint fine-tuned for this task"
            )


def _try(spec: str, load: Any) -> Any:
    try:
        return load()
    except Exception as error:  # from_pretrained passes on any kind of error of its parts
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise TeacherError(f"teacher '{spec}' cannot be loaded: {first}") from error


@contextmanager
def _whole_weights() -> Iterator[None]:
    # With an active HfDeepSpeedConfig of stage 3, from_pretrained would partition a model that no engine manages.
    saved = getattr(hf_deepspeed, "_hf_deepspeed_config_weak_ref", None)
    hf_deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        live = saved() if saved is not None else None
        if live is not None:
            hf_deepspeed.set_hf_deepspeed_config(live)
