"""Stored weights: how the weight of a layer is represented in memory and in a file."""

from __future__ import annotations

from xtc_ds.storage.base import StoredPart, StoredWeight
from xtc_ds.storage.elementwise import Coded, Dense, Elementwise
from xtc_ds.storage.factored import Factored
from xtc_ds.storage.masked import Masked
from xtc_ds.storage.places import Places, pattern_fits
from xtc_ds.storage.registry import register_storage, weight_from_json, weight_to_json
from xtc_ds.storage.shared import Shared
from xtc_ds.storage.sparse import Sparse, pruned_weight

__all__ = [
    "Coded",
    "Dense",
    "Elementwise",
    "Factored",
    "Masked",
    "Places",
    "Shared",
    "Sparse",
    "StoredPart",
    "StoredWeight",
    "pattern_fits",
    "pruned_weight",
    "register_storage",
    "weight_from_json",
    "weight_to_json",
]

for _kind in (Dense, Coded, Masked, Sparse, Factored, Shared):
    register_storage(_kind)
