"""A tiny model folder with its tokenizer, tiny GLUE files, and a call of the launcher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests import tiny
from xtc_ds.launcher import main
from xtc_ds.launcher.tasks.reviews import generate

WORDS = ("the", "a", "man", "dog", "runs", "sleeps", "fast", "good", "bad", "here", "there", "not", "is", "was")


def tokenizer_of(words: tuple[str, ...] = WORDS, pad: bool = True) -> Any:
    """A WordPiece tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
    vocabulary = {word: index for index, word in enumerate((*special, *dict.fromkeys(words)))}
    assert len(vocabulary) <= 100
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "eos_token": "[SEP]"}
    if pad:
        names["pad_token"] = "[PAD]"
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **names)


def review_words() -> tuple[str, ...]:
    """The commonest words of the embedded task."""
    counts: dict[str, int] = {}
    for split in generate(200, 50, 0):
        for review in split:
            for word in review.text.lower().replace(",", " ").replace(".", " ").split():
                counts[word] = counts.get(word, 0) + 1
    return tuple(sorted(counts, key=lambda word: (-counts[word], word))[:90])


def save_model(folder: Path, kind: str = "bert", pad: bool = True, words: tuple[str, ...] = WORDS, **extra: Any) -> str:
    """A folder with a random classifier and its tokenizer; with ``pad`` False neither knows a padding token."""
    model = tiny.tiny_model(kind, **extra)
    if not pad:
        model.config.pad_token_id = None
    model.save_pretrained(folder)
    tokenizer_of(words, pad).save_pretrained(folder)
    return str(folder)


def save_config(file: Path, block: dict[str, Any] | None = None, **extra: Any) -> str:
    """A DeepSpeed config file; by default 1 bit, every other layer, distillation."""
    if block is None:
        block = tiny.block(reduction={"keep_number_layer": 2}, kd={})
    file.write_text(json.dumps(tiny.ds_config(block, **extra)))
    return str(file)


def save_glue(folder: Path, task: str, train_rows: int = 24, dev_rows: int = 10) -> str:
    """Mini files of a pair task in the original layout."""
    header, row, names = {
        "mrpc": ("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", "{label}\t1\t2\t{a}\t{b}", ("dev",)),
        "stsb": ("index\tsentence1\tsentence2\tscore", "{i}\t{a}\t{b}\t{score}", ("dev",)),
        "mnli": (
            "index\tsentence1\tsentence2\tgold_label",
            "{i}\t{a}\t{b}\t{entailment}",
            ("dev_matched", "dev_mismatched"),
        ),
    }[task]
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", train_rows), *((dev, dev_rows) for dev in names)):
        lines = [header]
        for i in range(count):
            a, b = WORDS[i % len(WORDS)], WORDS[(3 * i + 1) % len(WORDS)]
            kind = ("entailment", "neutral", "contradiction")[i % 3]
            values = {"i": i, "label": i % 2, "score": f"{i % 6 * 0.9:.2f}", "entailment": kind}
            lines.append(row.format(a=f"the {a} is {b}", b=f"a {b} was not {a} here", **values))
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return str(folder)


def launch(*flags: str | Path) -> int:
    """``launcher/train.py`` in this process."""
    return main([str(flag) for flag in flags])
