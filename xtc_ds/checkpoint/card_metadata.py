"""The block of YAML at the head of a model card, which the hub reads: library, tags, base model, task, results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml  # type: ignore[import-untyped]  # comes with transformers

from xtc_ds.origins import hub_id

__all__ = ["card_metadata", "tags_of"]

_TAGS = ("xtc", "quantized")
# The end of a class's name to the hub's task.
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
    """The block's lines, from ``---`` to ``---``.

    about: as in ``quantization_config``. tags: beside our own.
    """
    task = next((task for end, task in _TASKS.items() if class_name.endswith(end)), None)
    base, dataset = hub_id(about.get("base_model")), about.get("dataset")
    content: dict[str, Any] = {"library_name": "transformers"}
    for key in ("license", "language"):
        if about.get(key):
            content[key] = about[key]
    if base:
        content |= {"base_model": base, "base_model_relation": "quantized"}
    if task:
        content["pipeline_tag"] = task
    content["tags"] = list(dict.fromkeys([*_TAGS, *tags]))
    if hub_id(dataset):
        content["datasets"] = [dataset]
    scores = {name: value for name, value in sorted((about.get("scores") or {}).items()) if not isinstance(value, str)}
    if scores and task and dataset:
        metrics = [{"type": name, "value": value} for name, value in scores.items()]
        result = {"task": {"type": task}, "dataset": {"type": dataset, "name": dataset}, "metrics": metrics}
        content["model-index"] = [{"name": title, "results": [result]}]
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=1000)
    return ["---", *text.splitlines(), "---"]


def tags_of(card: str) -> list[str]:
    """The tags in a card's metadata."""
    parts = card.split("---\n", 2)
    try:
        found = yaml.safe_load(parts[1]) if card.startswith("---\n") and len(parts) == 3 else None
    except yaml.YAMLError:
        found = None
    tags = found.get("tags") if isinstance(found, dict) else None
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
