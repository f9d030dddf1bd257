"""The YAML metadata at the top of a model card, which the hub reads: library, tags, base model, task, results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml  # type: ignore[import-untyped]  # comes with huggingface_hub
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from xtc_ds.origins import hub_id

__all__ = ["card_metadata", "tags_of"]

_TAGS = ("xtc", "quantized")
# Suffix of a model class's name to the hub's task name.
_TASKS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForImageClassification": "image-classification",
}


def card_metadata(class_name: str, title: str, about: Mapping[str, Any], tags: Iterable[str] = ()) -> list[str]:
    """The lines of the YAML block, including both ``---`` lines.

    about: as in ``quantization_config``. tags: hub tags in addition to those of xtc_ds.
    """
    task = next((task for end, task in _TASKS.items() if class_name.endswith(end)), None)
    base, dataset = hub_id(about.get("base_model")), about.get("dataset")
    data_id = hub_id(dataset)
    scores = {name: value for name, value in sorted((about.get("scores") or {}).items()) if not isinstance(value, str)}
    results = None
    if scores and task and dataset:
        results = [EvalResult(task, dataset, dataset, name, value) for name, value in scores.items()]
    data = ModelCardData(
        library_name="transformers",
        license=about.get("license") or None,
        language=about.get("language") or None,
        base_model=base,
        base_model_relation="quantized" if base else None,
        pipeline_tag=task,
        tags=list(dict.fromkeys([*_TAGS, *tags])),
        datasets=None if data_id is None else [data_id],
        model_name=title if results else None,
        eval_results=results,
    )
    return ["---", *data.to_yaml().splitlines(), "---"]


def tags_of(card: str) -> list[str]:
    """The tags in a card's metadata; an empty list if the metadata cannot be read."""
    try:
        tags = ModelCard(card, ignore_metadata_errors=True).data.get("tags")
    except (ValueError, TypeError, yaml.YAMLError):
        return []
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
