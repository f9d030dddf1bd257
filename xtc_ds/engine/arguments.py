"""Find the config among the arguments of ``deepspeed.initialize``."""

from __future__ import annotations

import copy
from typing import Any

from xtc_ds.errors import ConfigError

__all__ = ["one_config", "without_config"]


def one_config(args: Any, config: Any, config_params: Any) -> Any:
    """The config from the one argument that holds it. Raises ConfigError if none or several of the three hold one."""
    given = {
        "config": config,
        "config_params": config_params,
        "args.deepspeed_config": getattr(args, "deepspeed_config", None),
    }
    named = [name for name, value in given.items() if value is not None]
    if not named:
        raise ConfigError("no DeepSpeed config; pass config=... or args.deepspeed_config")
    if len(named) > 1:
        raise ConfigError(f"more than one DeepSpeed config: {' and '.join(named)}; pass one of them")
    return given[named[0]]


def without_config(args: Any) -> Any:
    """The command-line arguments without ``deepspeed_config``; a copy if that is set, else ``args`` itself."""
    # DeepSpeed refuses a config in two places, and we pass it one without our block.
    if args is None or getattr(args, "deepspeed_config", None) is None:
        return args
    args = copy.copy(args)
    args.deepspeed_config = None
    return args
