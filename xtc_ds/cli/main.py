"""The entry point ``xtc-ds``: runs the sub-command and prints user errors as one clear message."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from xtc_ds.cli import bench, export, inspect, migrate, plan, schema, train, validate
from xtc_ds.errors import XtcError

__all__ = ["COMMANDS", "build_parser", "main"]


class Command(Protocol):
    """The interface of a sub-command's module; heavy imports belong in its run function."""

    def register(self, subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
        """Add a parser whose default for ``run`` is a function that takes the arguments and returns the exit code."""


# To add a sub-command, write a module with `register`, import it above and list it here.
COMMANDS: tuple[Command, ...] = (validate, plan, schema, train, export, inspect, migrate, bench)


def build_parser() -> argparse.ArgumentParser:
    """The parser with all sub-commands; ``--debug`` may be given before or after the sub-command."""
    parser = argparse.ArgumentParser(
        prog="xtc-ds", description="Compress transformers by one JSON block in a DeepSpeed config."
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.register(subparsers)
    for subparser in subparsers.choices.values():
        subparser.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of errors"
        )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command and return the exit code: 0 for success, 1 for bad input; argparse exits with 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in words if not word.startswith("-")), None)
    if command == "train":  # parses its arguments itself, because a task may have its own flags
        words.remove(command)
        train.run(words)
    arguments = build_parser().parse_args(words)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        code = run(arguments)
        sys.stdout.flush()
        return code
    except XtcError as error:
        if arguments.debug:
            raise
        print(f"xtc-ds: error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader (head, a pager) closed the pipe. Redirect stdout, or Python's flush at exit prints a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("xtc-ds: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
