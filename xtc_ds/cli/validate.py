"""``xtc-ds validate FILE...``: print every problem of every file on its own line."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from xtc_ds.config import check_config
from xtc_ds.errors import ConfigError, Problem

__all__ = ["register", "run"]


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "validate",
        help="check DeepSpeed configs with a compression_training block",
        description="Check DeepSpeed configs (JSON or HJSON). Exit code 0: no errors (warnings allowed); 1: errors.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="a DeepSpeed config")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check all files, print problems to stdout, and return 0 or 1."""
    results = [(file, *_check(file)) for file in arguments.files]
    if arguments.json:
        report = [
            {
                "file": file,
                "valid": not errors,
                "errors": [asdict(problem) for problem in errors],
                "warnings": [asdict(problem) for problem in warnings],
            }
            for file, errors, warnings in results
        ]
        print(json.dumps(report, indent=2))
    else:
        for file, errors, warnings in results:
            _print_lines(file, errors, warnings)
    return int(any(errors for _, errors, _ in results))


def _check(file: str) -> tuple[list[Problem], list[Problem]]:
    try:
        return check_config(file)
    except ConfigError as error:
        # The line already starts with the file name.
        return [Problem("" if item.path == file else item.path, item.message) for item in error.problems], []


def _print_lines(file: str, errors: list[Problem], warnings: list[Problem]) -> None:
    for problem in errors:
        print(f"{file}: error: {problem}")
    for problem in warnings:
        print(f"{file}: warning: {problem}")
    if not errors:
        print(f"{file}: ok")
