"""Convert a config of DeepSpeed's own compression library to an equivalent one for xtc_ds, with a note per change."""

from __future__ import annotations

from xtc_ds.config.migrate.note import Note
from xtc_ds.config.migrate.run import Migration, migrate_config
from xtc_ds.config.migrate.template import check_placeholders
from xtc_ds.config.migrate.write import write_config

__all__ = ["Migration", "Note", "check_placeholders", "migrate_config", "write_config"]
