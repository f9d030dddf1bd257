"""Tasks of another package: several labels, a label for each token, sequence to sequence, language modelling.

All read the same few words and need no files. ``MODELS`` has a tiny model for each.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers as t

from xtc_ds.errors import DataError
from xtc_ds.launcher import DataOptions, EncodedDataset, Task, TaskData

WORDS = ("the", "a", "man", "dog", "runs", "sleeps", "fast", "good", "bad", "here", "there", "not", "is", "was")


@dataclass(frozen=True)
class Sentences:
    """Rows: sentences alone; the tasks below make their labels of them."""

    texts: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, rows: Sequence[int]) -> Sentences:
        return Sentences([self.texts[row] for row in rows])


def sentences(count: int, shift: int) -> Sentences:
    """Sentences of three to six words."""
    rows = [[WORDS[(row * 5 + shift + 3 * at) % len(WORDS)] for at in range(3 + row % 4)] for row in range(count)]
    return Sentences([" ".join(words) for words in rows])


class ToyTask(Task):
    headline = "accuracy"

    def load(self, options: DataOptions) -> TaskData:
        if options.data_dir is not None:
            raise DataError(f"task {self.name!r} reads no files")
        return TaskData(self, sentences(32, 0), {"dev": sentences(10, 1)})

    def inputs(self, tokenizer: Any, rows: Sentences, max_length: int) -> list[list[int]]:
        ids: list[list[int]] = tokenizer(rows.texts, truncation=True, max_length=max_length)["input_ids"]
        return ids


class Topics(ToyTask):
    """Several labels: which of three words a sentence has."""

    name, auto_class, headline = "topics", "AutoModelForSequenceClassification", "f1"
    words = ("man", "dog", "good")

    def model_config(self) -> dict[str, Any]:
        names = dict(enumerate(self.words))
        return {"num_labels": 3, "problem_type": "multi_label_classification", "id2label": names}

    def encode(self, tokenizer: Any, rows: Sentences, max_length: int) -> EncodedDataset:
        labels = [[float(word in text.split()) for word in self.words] for text in rows.texts]
        return EncodedDataset({"input_ids": self.inputs(tokenizer, rows, max_length), "labels": labels})

    def collator(self, tokenizer: Any, model: Any) -> Any:
        return t.DataCollatorWithPadding(tokenizer)

    def score(self, predictions: Any, data: EncodedDataset) -> dict[str, float]:
        found, truth = predictions > 0, np.asarray(data.labels) > 0
        return {"f1": float(2 * (found & truth).sum() / max(1, found.sum() + truth.sum()))}


class Lengths(ToyTask):
    """A label for each token: whether its word is short."""

    name, auto_class = "lengths", "AutoModelForTokenClassification"

    def model_config(self) -> dict[str, Any]:
        return {"num_labels": 2, "id2label": {0: "long", 1: "short"}}

    def encode(self, tokenizer: Any, rows: Sentences, max_length: int) -> EncodedDataset:
        ids = self.inputs(tokenizer, rows, max_length)
        special = set(tokenizer.all_special_ids)
        short = {tokenizer.convert_tokens_to_ids(word) for word in WORDS if len(word) < 4}
        labels = [[-100 if token in special else int(token in short) for token in row] for row in ids]
        return EncodedDataset({"input_ids": ids, "labels": labels})

    def collator(self, tokenizer: Any, model: Any) -> Any:
        return t.DataCollatorForTokenClassification(tokenizer)

    def score(self, predictions: Any, data: EncodedDataset) -> dict[str, float]:
        pairs = [
            (row[: len(labels)].argmax(-1), np.asarray(labels))
            for row, labels in zip(predictions, data.labels, strict=True)
        ]
        return {"accuracy": float(np.concatenate([(f == y)[y != -100] for f, y in pairs]).mean())}


class Reversal(ToyTask):
    """Sequence to sequence, with a flag of its own: the sentence backwards, scored on what ``generate`` gives."""

    name, auto_class, predicts_logits = "reversal", "AutoModelForSeq2SeqLM", False
    most = 8

    def add_arguments(self, group: argparse._ArgumentGroup) -> None:
        group.add_argument("--beams", type=int, default=1, help="of the search")

    def load(self, options: DataOptions) -> TaskData:
        made = Reversal()
        made.beams = options.flags["beams"]
        data = super().load(options)
        return TaskData(made, data.train, data.dev)

    beams = 0

    def encode(self, tokenizer: Any, rows: Sentences, max_length: int) -> EncodedDataset:
        backwards = Sentences([" ".join(reversed(text.split())) for text in rows.texts])
        labels = self.inputs(tokenizer, backwards, max_length)
        return EncodedDataset({"input_ids": self.inputs(tokenizer, rows, max_length), "labels": labels})

    def collator(self, tokenizer: Any, model: Any) -> Any:
        return t.DataCollatorForSeq2Seq(tokenizer, model=model)

    def predict(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        assert self.beams
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        tokens: torch.Tensor = model.generate(**inputs, max_new_tokens=self.most, num_beams=self.beams)
        return tokens

    def score(self, predictions: Any, data: EncodedDataset) -> dict[str, float]:
        hits = [set(map(int, row)) >= set(labels) for row, labels in zip(predictions, data.labels, strict=True)]
        return {"accuracy": sum(hits) / len(hits)}


class NextWord(ToyTask):
    """Language modelling: perplexity, of which less is better."""

    name, auto_class, predicts_logits = "next-word", "AutoModelForCausalLM", False
    headline, greater_is_better = "perplexity", False

    def encode(self, tokenizer: Any, rows: Sentences, max_length: int) -> EncodedDataset:
        return EncodedDataset({"input_ids": self.inputs(tokenizer, rows, max_length)})

    def collator(self, tokenizer: Any, model: Any) -> Any:
        return t.DataCollatorForLanguageModeling(tokenizer, mlm=False)

    def predict(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Sum of the losses and number of tokens of each example, [B, 2]."""
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        logits, labels = model(**inputs).logits[:, :-1].float(), batch["labels"][:, 1:]
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        return torch.stack([losses.sum(1), (labels != -100).sum(1)], dim=1)

    def score(self, predictions: Any, data: EncodedDataset) -> dict[str, float]:
        losses, tokens = predictions.sum(0)
        return {"perplexity": float(np.exp(losses / tokens))}

    def format_score(self, metric: str, value: float) -> str:
        return f"{value:.2f}"


TOPICS, LENGTHS, REVERSAL, NEXT_WORD = Topics(), Lengths(), Reversal(), NextWord()


def bart() -> Any:
    """A tiny encoder and decoder of four layers each."""
    sides = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in
             (("layers", 4), ("attention_heads", 2), ("ffn_dim", 64))}  # fmt: skip
    config = t.BartConfig(
        vocab_size=100, d_model=32, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=2, forced_eos_token_id=2, **sides,
    )  # fmt: skip
    return t.BartForConditionalGeneration(config)


def llama() -> Any:
    """A tiny decoder of four layers."""
    config = t.LlamaConfig(
        vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=2,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, max_position_embeddings=64,
    )  # fmt: skip
    return t.LlamaForCausalLM(config)
