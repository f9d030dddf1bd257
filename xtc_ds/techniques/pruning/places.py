"""Find the config key that sets a value."""

from __future__ import annotations

from xtc_ds.config import CompressionConfig
from xtc_ds.config.pieces import Group

__all__ = ["key_path"]


def key_path(config: CompressionConfig, technique: str, group: Group, key: str) -> str:
    """The path of the key that sets the group's value: in the group itself, or in the shared parameters."""
    block = config.raw.get(technique, {})
    params = block.get("different_groups", {}).get(group.name, {}).get("params", {})
    shared = block.get("shared_parameters", {})
    # The group that is created for snip_momentum from the shared keys has no params.
    if key not in params and (key in shared or group.path.endswith(".shared_parameters")):
        return f"compression_training.{technique}.shared_parameters.{key}"
    return f"{group.path}.params.{key}"
