"""The callback for Hugging Face's Trainer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from xtc_ds.checkpoint import export_packed
from xtc_ds.checkpoint.export import check_target
from xtc_ds.engine.wrapper import engine_of
from xtc_ds.errors import EngineError

__all__ = ["CompressionCallback"]


class CompressionCallback(TrainerCallback):  # type: ignore[misc]
    """Checks that the Trainer's model is compressed, logs bits and distillation losses, and exports the packed model.

    export_to: folder for ``export_packed`` at the end of training, with the Trainer's tokenizer; None: no export. The
        Trainer's own checkpoints hold the latent weights of training, which are not smaller.
    scores: for the model card, name to value.

    When training starts, raises EngineError for a model that is not compressed, and ExportError for a folder that must
    not be replaced.
    """

    def __init__(
        self, export_to: str | os.PathLike[str] | None = None, scores: Mapping[str, float | str] | None = None
    ) -> None:
        self.export_to, self.scores = export_to, scores

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.export_to is not None:
            check_target(Path(self.export_to).absolute())
        _engine(kwargs["model"])

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        logs: dict[str, Any] = kwargs["logs"]
        if "loss" not in logs:  # logs of an evaluation, or the summary at the end
            return
        ours = _figures(_engine(kwargs["model"]))
        logs.update(ours)
        state.log_history[-1].update(ours)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.export_to is not None:
            engine = _engine(kwargs["model"])
            export_packed(engine, self.export_to, kwargs.get("processing_class"), scores=self.scores)


def _engine(model: nn.Module) -> Any:
    engine = engine_of(model)
    if engine is None:
        raise EngineError(
            "CompressionCallback: the Trainer's model is not compressed; call xtc_ds.integrations.install() before "
            "TrainingArguments(deepspeed=...) reads a config that has a compression_training block"
        )
    return engine


def _figures(engine: Any) -> dict[str, float]:
    """This rank's last losses (``kd_<part>``) and the current bits (``weights_bits_<group>``, ``activations_...``)."""
    figures = {f"kd_{name}": value for name, value in engine.xtc.loss_parts().items()}
    for what, groups in engine.xtc.schedule.bits().items():
        figures |= {f"{what}_bits_{group}": bits for group, bits in groups.items()}
    return figures
