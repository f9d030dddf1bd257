"""The ``compression_training`` block: reading it, checking it and converting it to dataclasses.

Only the generic machinery is here: techniques register the sections of the block, each in its ``config.py``. Nothing
here needs torch.
"""

from __future__ import annotations

from xtc_ds.config.compression_config import CompressionConfig
from xtc_ds.config.load import check_config, load_config
from xtc_ds.config.schema import schema
from xtc_ds.config.section import Section, register_section, sections
from xtc_ds.config.source import read_config, split_config
from xtc_ds.config.validate import check_block, parse_block

__all__ = [
    "CompressionConfig",
    "Section",
    "check_block",
    "check_config",
    "load_config",
    "parse_block",
    "read_config",
    "register_section",
    "schema",
    "sections",
    "split_config",
]
