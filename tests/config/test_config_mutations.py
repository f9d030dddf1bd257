"""Damaged blocks: each is refused with ConfigError or PlanError, or it really compresses a model that then runs."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from tests.config.mutations import BLOCKS, TinyNet, mutated_blocks
from xtc_ds import compress
from xtc_ds.config import CompressionConfig, parse_block
from xtc_ds.errors import ConfigError, PlanError
from xtc_ds.layers import set_step

IDS = torch.arange(10).reshape(2, 5)
QUIET = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


def compressed_and_run(config: CompressionConfig) -> None:
    """Forwards in training before, in and behind every schedule, a backward, and one in evaluation."""
    torch.manual_seed(0)
    model = TinyNet()
    try:
        compress(model, config)
    except PlanError as error:
        assert error.problems
        assert all(problem.path.startswith("compression_training") for problem in error.problems)
        return
    for step in (0, 1, 4, 10**7):
        set_step(model, step)
        logits = model(IDS)
        assert logits.shape == (2, 3)
        assert bool(logits.isfinite().all())
        logits.sum().backward()
    set_step(model, 2**63 - 1)
    model(IDS)  # a static range that only starts now needs to see an input
    model.eval()
    assert bool(model(IDS).isfinite().all())


@pytest.mark.parametrize("index", range(len(BLOCKS)))
def test_the_undamaged_blocks_run(index: int) -> None:
    config = parse_block(BLOCKS[index])
    torch.manual_seed(0)
    compress(TinyNet(), config)
    compressed_and_run(config)


@pytest.mark.slow
@settings(max_examples=2000, **QUIET)  # type: ignore[arg-type]
@given(mutated_blocks(most=4))
def test_damage_is_a_config_error_or_none(block: Any) -> None:
    try:
        config = parse_block(block)
    except ConfigError as error:
        assert len(str(error).splitlines()) == len(error.problems) > 0
    else:
        assert isinstance(config, CompressionConfig)


@pytest.mark.slow
@settings(max_examples=300, **QUIET)  # type: ignore[arg-type]
@given(mutated_blocks(most=2))
def test_what_is_accepted_and_planned_runs(block: Any) -> None:
    try:
        config = parse_block(block)
    except ConfigError:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compressed_and_run(config)
