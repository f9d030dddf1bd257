"""Writes a WordPiece vocabulary in llama.cpp's form: U+2581 before tokens that begin a word, no prefix for others."""

from __future__ import annotations

import json
from typing import Any

import gguf

__all__ = ["add_vocabulary", "not_wordpiece"]

_SPACE = "\u2581"
# Tokenizer attribute to method of the writer; gguf still calls the [CLS] token "bos".
_SPECIAL = {
    "cls_token_id": "add_bos_token_id",
    "sep_token_id": "add_sep_token_id",
    "unk_token_id": "add_unk_token_id",
    "pad_token_id": "add_pad_token_id",
    "mask_token_id": "add_mask_token_id",
}


def not_wordpiece(tokenizer: Any) -> str | None:
    """Why the tokenizer's vocabulary cannot be written; None if it can."""
    model = _described(tokenizer).get("model", {})
    if model.get("type") != "WordPiece" or model.get("continuing_subword_prefix") != "##":
        return f"{type(tokenizer).__name__} is no WordPiece tokenizer with '##' before what continues a word"
    return None


def add_vocabulary(writer: Any, tokenizer: Any, size: int) -> None:
    """Write the tokens, their types and the settings of text normalization.

    tokenizer: ``not_wordpiece`` must return None for it. size: number of rows in the embedding table.
    """
    tokens, special = {number: text for text, number in tokenizer.get_vocab().items()}, set(tokenizer.all_special_ids)
    written, kinds = [], []
    for number in range(size):
        text = tokens.get(number)
        if text is None:
            written.append(f"[PAD{number}]")
            kinds.append(gguf.TokenType.UNUSED)
        elif number in special:
            written.append(text)
            kinds.append(gguf.TokenType.CONTROL)
        else:
            written.append(text[2:] if text.startswith("##") else _SPACE + text)
            kinds.append(gguf.TokenType.NORMAL)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(written)
    writer.add_token_types(kinds)
    for key, method in _SPECIAL.items():
        if getattr(tokenizer, key, None) is not None:
            getattr(writer, method)(getattr(tokenizer, key))
    normalizer = _described(tokenizer).get("normalizer") or {}
    lowercase = bool(normalizer.get("lowercase", False))
    accents = normalizer.get("strip_accents")
    writer.add_bool("tokenizer.ggml.normalizer.lowercase", lowercase)
    writer.add_bool("tokenizer.ggml.normalizer.strip_accents", lowercase if accents is None else bool(accents))


def _described(tokenizer: Any) -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described: dict[str, Any] = {} if backend is None else json.loads(backend.to_str())
    return described
