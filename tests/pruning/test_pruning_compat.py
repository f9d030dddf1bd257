"""Pruning through DeepSpeed's old names."""

from __future__ import annotations

import pytest
import torch

from tests.pruning.configs import pruning
from tests.pruning.masks import sparse_mask
from tests.tiny import batch, ds_config, tiny_model
from xtc_ds.compat.deepspeed import compression_scheduler, init_compression, install, uninstall

QUERY = "bert.encoder.layer.0.attention.self.query"


def test_a_loop_without_an_engine_prunes_gradually() -> None:
    values = {"dense_ratio": 0.5, "schedule_offset_end": 2}
    config = ds_config(pruning("sparse_pruning", {"g": (["query"], values)}, method="snip_momentum", schedule_offset=0))
    model = init_compression(tiny_model(layers=1), config)
    scheduler = compression_scheduler(model, config)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    kept = []
    for number in range(3):
        model(**batch(seed=number)).loss.backward()
        optimizer.step()
        scheduler.step()
        kept.append(int(sparse_mask(model.get_submodule(QUERY)).sum()))
    # Half of 1024 after the cubic law's 7/8 of the way.
    assert kept == [576, 512, 512]


@pytest.mark.usefixtures("single_process_group")
@pytest.mark.parametrize("given", ["optimizer", "model_parameters"])
def test_scores_are_trained_by_what_was_built_before(given: str) -> None:
    import deepspeed

    config = ds_config(
        pruning("sparse_pruning", {"g": (["query"], {"dense_ratio": 0.5})}, method="topk", schedule_offset=0)
    )
    model = tiny_model(layers=1)
    before = list(model.parameters())
    arguments: dict[str, object] = {given: torch.optim.SGD(before, lr=0.1) if given == "optimizer" else before}
    if given != "optimizer":
        config["optimizer"] = {"type": "SGD", "params": {"lr": 0.1}}
    install()
    try:
        init_compression(model, config)
        engine = deepspeed.initialize(model=model, config=config, **arguments)[0]
        scores = model.get_submodule(QUERY).sparse_mask_scores
        first = scores.detach().clone()
        engine.backward(engine(**batch()).loss)
        engine.step()
        assert not torch.equal(scores, first)
        engine.destroy()
    finally:
        uninstall()
