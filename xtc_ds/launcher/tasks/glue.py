"""The nine tasks of GLUE (Wang et al. 2019), from the original TSV files or from the Hugging Face hub."""

from __future__ import annotations

from xtc_ds.launcher.tasks import glue_files, glue_hub
from xtc_ds.launcher.tasks.base import DataOptions, TaskData
from xtc_ds.launcher.tasks.registry import register_task
from xtc_ds.launcher.tasks.text import TextTask

__all__ = ["TASKS", "GlueTask"]


class GlueTask(TextTask):
    """``keys`` are the column names on the hub; ``glue_files.LAYOUTS`` has those of the files, if they differ."""

    def load(self, options: DataOptions) -> TaskData:
        """Read ``data_dir``, or without one the hub's copy. ``dev`` is one split; for MNLI two: matched, mismatched."""
        if options.data_dir is not None:
            train, dev = glue_files.read(self.name, options.data_dir)
        else:
            train, dev = glue_hub.download(self.name, self.keys, None if self.is_regression else self.num_labels)
        return TaskData(self, train, dev)


_ENTAILMENT = ("entailment", "not_entailment")
_SENTENCES = ("sentence1", "sentence2")
_ACCURACY_F1 = ("accuracy", "f1")
_MATTHEWS = "matthews_correlation"

TASKS = (
    GlueTask(
        name="cola",
        keys=("sentence",),
        labels=("unacceptable", "acceptable"),
        metrics=(_MATTHEWS,),
        headline=_MATTHEWS,
    ),
    GlueTask(name="mnli", keys=("premise", "hypothesis"), labels=("entailment", "neutral", "contradiction")),
    GlueTask(name="mrpc", keys=_SENTENCES, labels=("not_equivalent", "equivalent"), metrics=_ACCURACY_F1),
    GlueTask(name="qnli", keys=("question", "sentence"), labels=_ENTAILMENT),
    GlueTask(name="qqp", keys=("question1", "question2"), labels=("not_duplicate", "duplicate"), metrics=_ACCURACY_F1),
    GlueTask(name="rte", keys=_SENTENCES, labels=_ENTAILMENT),
    GlueTask(name="sst2", keys=("sentence",), labels=("negative", "positive")),
    GlueTask(name="stsb", keys=_SENTENCES, labels=(), metrics=("pearson", "spearmanr"), headline="pearson"),
    GlueTask(name="wnli", keys=_SENTENCES, labels=("not_entailment", "entailment")),
)

for _task in TASKS:
    register_task(_task)
