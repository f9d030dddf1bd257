"""Choose the transformers class that loads a teacher with the same kind of head as its student."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import transformers
from torch import nn
from transformers.models.auto import modeling_auto

__all__ = ["teacher_class"]

# Auto classes with a more general name than the task's own auto class for the same models.
_VAGUE = ("AutoModelForPreTraining", "AutoModelWithLMHead")


def teacher_class(config: Any, student: nn.Module) -> Any:
    """The model class, or the auto class, whose ``from_pretrained`` loads the teacher.

    config: the teacher's. Candidates, in this order:

    1. the class that the checkpoint was saved from (``config.architectures``), if the student is of that class;
    2. the auto class that maps the student's config to the student's class and also knows the teacher's config, so that
       their architectures may differ (``AutoModelForSeq2SeqLM`` for ``T5ForConditionalGeneration``);
    3. the auto class whose name is the suffix of the student's class name (for a user's own class);
    4. the class that the checkpoint was saved from, or ``AutoModel`` if transformers has none of that name.
    """
    kinds = type(student).__mro__
    saved = [found for name in config.architectures or () if (found := getattr(transformers, name, None)) is not None]
    for found in saved:
        if found in kinds:
            return found
    fitting = [auto for auto in _auto_classes() if _made_by(auto, getattr(student, "config", None)) & set(kinds)]
    known = [auto for auto in fitting if _made_by(auto, config)]
    for auto in sorted(known, key=lambda auto: not _made_by(auto, config) & set(saved)):
        return auto
    endings = {auto.__name__.removeprefix("AutoModel"): auto for auto in _auto_classes()}
    for kind in kinds:
        for ending, auto in endings.items():
            if ending and kind.__name__.endswith(ending):
                return auto
    return saved[0] if saved else transformers.AutoModel


def _auto_classes() -> Iterator[Any]:
    """Auto classes of models, those with a general name last."""
    named = {name: kind for name, kind in vars(modeling_auto).items() if name.startswith("AutoModel")}
    for name in sorted(named, key=lambda name: (name in _VAGUE, name)):
        if named[name]._model_mapping is not None:
            yield named[name]


def _made_by(auto: Any, config: Any) -> set[Any]:
    """The model classes to which an auto class maps this config; empty if it does not know the config."""
    found = auto._model_mapping.get(type(config), ())
    return set(found) if isinstance(found, (tuple, list)) else {found}
