"""``xtc-ds plan FILE --model DIR_OR_ID``: what a config would do to a model, without loading its weights."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from xtc_ds.errors import PlanError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["register", "run"]


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "plan",
        help="show what a config does to a model",
        description="Show, module by module, bits and bytes before and after. No weights are loaded.",
    )
    parser.add_argument("file", metavar="FILE", help="a DeepSpeed config with a compression_training block")
    parser.add_argument("--model", required=True, metavar="DIR_OR_ID", help="a model folder or hub id")
    parser.add_argument(
        "--auto-class",
        default=None,
        metavar="NAME",
        help="a transformers auto class; default: the class that the model's config names",
    )
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the plan and return 0; errors in the config are reported before the model is loaded."""
    from xtc_ds.config import load_config

    _, config = load_config(arguments.file)

    from xtc_ds.cli.console import wide_console
    from xtc_ds.plan import plan_table, plan_to_dict
    from xtc_ds.rewrite import make_plan

    plan = make_plan(_meta_model(arguments.model, arguments.auto_class), config)
    if arguments.json:
        print(json.dumps(plan_to_dict(plan), indent=2))
    else:
        wide_console().print(plan_table(plan))
    return 0


def _meta_model(name: str, auto_class: str | None) -> nn.Module:
    import torch
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise PlanError(f"--model {name}: {str(error).splitlines()[0]}") from error
    if auto_class is not None:
        model_class = getattr(transformers, auto_class, None)
        if model_class is None:
            raise PlanError(f"--auto-class: transformers has no class '{auto_class}'")
        build = getattr(model_class, "from_config", None) or model_class._from_config
    else:
        named = getattr(transformers, (config.architectures or [""])[0], None)
        build = named._from_config if named else transformers.AutoModel.from_config
    with torch.device("meta"):
        model: nn.Module = build(config)
    return model
