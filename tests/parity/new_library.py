"""Runs the same cases in this project, by its public functions."""

from __future__ import annotations

import copy
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import xtc_ds
from tests.parity.cases import Case
from tests.parity.models import MODELS, fill
from tests.parity.outcome import outcome
from tests.pruning.masks import kept_units, pruning_rows, sparse_mask
from xtc_ds.compat.deepspeed import redundancy_clean
from xtc_ds.layers import compressed_layers
from xtc_ds.techniques.sparse_pruning.rows import SparseRow

__all__ = ["prepare", "run"]


def prepare(case: Case) -> tuple[nn.Module, dict[str, Any]]:
    """The compressed model with the case's values, and its config."""
    model = MODELS[case.model]()
    fill(model, case.values, case.seed)
    config = {"compression_training": copy.deepcopy(case.block)}
    xtc_ds.compress(model, config)
    fill(model, case.values if case.has_ties else "distinct", case.seed, only="_scores")
    return model.to(getattr(torch, case.dtype)), config


def masks(model: nn.Module) -> dict[str, Tensor]:
    """``<module>/<kind>`` -> the mask that would be shipped, bool."""
    found = {}
    for name, layer in compressed_layers(model):
        for rule in pruning_rows(layer):
            if isinstance(rule, SparseRow):
                mask = sparse_mask(layer)
                assert mask is not None
                found[f"{name}/sparse"] = mask
            else:
                found[f"{name}/{rule.technique}"] = kept_units(layer, rule)
    return found


def run(case: Case) -> dict[str, NDArray[Any]]:
    """As ``old_library.run``: masks, output, gradients; state and output of the cleaned model."""
    model, config = prepare(case)
    return outcome(case, model, masks, lambda model: redundancy_clean(model, config))
