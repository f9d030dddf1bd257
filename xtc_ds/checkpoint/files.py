"""Write the files of a frozen model."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from xtc_ds.checkpoint.card import write_card
from xtc_ds.checkpoint.quantization_config import describe_packed
from xtc_ds.checkpoint.shards import write_weights
from xtc_ds.checkpoint.tensors import stored_tensors
from xtc_ds.checkpoint.verify import CONFIG_CHECKSUM, VERSION, config_checksum
from xtc_ds.compression_state import state_of

__all__ = ["MAX_SHARD_SIZE", "write_files"]

MAX_SHARD_SIZE = "5GB"


def write_files(frozen: nn.Module, folder: Path, max_shard_size: int | str = MAX_SHARD_SIZE) -> list[Path]:
    """Write config, weights and model card into ``folder``, replacing existing files; returns the weight files."""
    described = describe_packed(frozen, state_of(frozen).float_dtype)
    config = getattr(frozen, "config", None)
    if config is not None and hasattr(config, "save_pretrained"):
        config.quantization_config = described
        config.architectures = [type(frozen).__name__]
        floats = (p.dtype for p in frozen.parameters() if p.is_floating_point())
        config.dtype = str(next(floats, "float32")).removeprefix("torch.")
        config.save_pretrained(folder)
        generation = getattr(frozen, "generation_config", None)
        if generation is not None:
            generation.save_pretrained(folder)
    else:
        content = {"quantization_config": described.to_dict()}
        (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    metadata = {"format": "pt", VERSION: str(described.format_version), CONFIG_CHECKSUM: config_checksum(folder)}
    files = write_weights(folder, stored_tensors(frozen, described), metadata, max_shard_size)
    write_card(frozen, folder, sum(file.stat().st_size for file in files))
    return files
