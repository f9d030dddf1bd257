"""``deepspeed.initialize`` for old scripts, which leave the ``compression_training`` block in the config."""

from __future__ import annotations

import functools
import inspect
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from xtc_ds.compat.memory import init_compression_was_called, recall
from xtc_ds.compat.old_config import anything_enabled, block_of, has_other_block
from xtc_ds.compression_state import InitCompression
from xtc_ds.config import read_config, split_config
from xtc_ds.config.locate import BLOCK
from xtc_ds.errors import ConfigError, EngineError
from xtc_ds.layers import compressed_layers

__all__ = ["patched_initialize", "without_block"]

logger = logging.getLogger(__name__)

Initialize = Callable[..., tuple[Any, ...]]


def patched_initialize(original: Initialize) -> Initialize:
    """Wrap ``original`` (DeepSpeed's), to accept configs with a ``compression_training`` block and compressed models.

    A model that went through ``init_compression`` gets an engine that advances its schedule. Any other model is
    compressed here, as by ``xtc_ds.initialize``, with two exceptions: a model without an optimizer, and any model in a
    script that calls ``init_compression`` itself, because such scripts wrap their teacher with the same config.
    """
    signature = inspect.signature(original)

    @functools.wraps(original)
    def initialize(*positional: Any, **named: Any) -> tuple[Any, ...]:
        given = dict(signature.bind_partial(*positional, **named).arguments)
        call = recall(given["model"]) if hasattr(given.get("model"), "modules") else None
        source = _config_of(given)
        block = _has_block(source)
        if call is None and not block:
            return original(*positional, **named)
        if call is not None:
            return _around_compressed(original, given, source, call)
        return _around_plain(original, given, source)

    return initialize


def without_block(config: Any) -> Any:
    """``config`` itself if it has no block (or cannot be read); else a deep copy without the block, as a dict."""
    return split_config(read_config(config))[0] if _has_block(config) else config


def _config_of(given: Mapping[str, Any]) -> Any:
    """The config that DeepSpeed would read: the argument, else the command line's file; None if both are given."""
    passed = given.get("config") if given.get("config") is not None else given.get("config_params")
    command_line = getattr(given.get("args"), "deepspeed_config", None)
    if passed is not None and command_line is not None:
        return None
    return passed if passed is not None else command_line


def _has_block(config: Any) -> bool:
    if not isinstance(config, Mapping | str | os.PathLike):
        return False
    try:
        return BLOCK in read_config(config)
    except ConfigError:
        return False  # let DeepSpeed report a config that cannot be read


def _around_compressed(
    original: Initialize, given: dict[str, Any], source: Any, call: InitCompression
) -> tuple[Any, ...]:
    from xtc_ds.engine.wrapper import wrap_engine

    if _has_block(source):
        if has_other_block(source, call.plan.config):
            logger.warning("deepspeed.initialize: init_compression got another block, and that one counts")
        given = _with_config(given, without_block(source))
    engine, *rest = original(**_with_scores(given))
    if call.distiller is not None:
        call.distiller.teacher.to(engine.device)
    return (wrap_engine(engine, call.plan, call.distiller), *rest)


def _with_scores(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments with learned pruning scores added to an optimizer or parameter list that was built without them."""
    from xtc_ds.engine.optimizers import follow_optimizer, follow_parameters

    model = given["model"]
    optimizer = follow_optimizer(given.get("optimizer"), model, {})
    parameters = follow_parameters(given.get("model_parameters"), model, {})
    return {**given, "optimizer": optimizer, "model_parameters": parameters}


def _around_plain(original: Initialize, given: dict[str, Any], source: Any) -> tuple[Any, ...]:
    from xtc_ds.engine import initialize

    block = block_of(source)
    assert block is not None
    plain = _with_config(given, without_block(source))
    if not anything_enabled(block):
        return original(**plain)
    if any(True for _ in compressed_layers(given["model"])):
        raise EngineError(
            "deepspeed.initialize: the model was compressed by xtc_ds.compress; compress it with init_compression, or "
            "hand the plain model to xtc_ds.initialize"
        )
    if reason := _left_alone(plain):
        logger.warning("deepspeed.initialize: the model is not compressed: %s", reason)
        return original(**plain)
    logger.warning("deepspeed.initialize: compressing the model as the compression_training block says")
    # Pass the parsed block, so that it is not validated twice.
    return initialize(**_with_config(given, {**plain["config"], BLOCK: block}))


def _left_alone(given: Mapping[str, Any]) -> str | None:
    if init_compression_was_called():
        return "this script compresses its models by init_compression, and this one never went through it"
    if given.get("optimizer") is None and "optimizer" not in given["config"]:
        return "its engine has no optimizer, so it is not trained"
    return None


def _with_config(given: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """The arguments with ``config`` as the only config."""
    from xtc_ds.engine.arguments import without_config

    kept = {name: value for name, value in given.items() if name not in ("args", "config", "config_params")}
    return {"args": without_config(given.get("args")), **kept, "config": config}
