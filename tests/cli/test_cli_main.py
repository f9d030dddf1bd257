"""The entry point: help, the schema command, and how errors are told."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import pytest

from xtc_ds.cli import main as entry
from xtc_ds.cli.main import COMMANDS, build_parser, main
from xtc_ds.config import schema
from xtc_ds.errors import ConfigError


class Failing:
    """A sub-command that ends in a user error."""

    @staticmethod
    def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
        subparsers.add_parser("fail").set_defaults(run=Failing.run)

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        raise ConfigError("the reason")


def test_schema_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(COMMANDS) >= 2
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("validate", "schema"))


@pytest.mark.parametrize("arguments", [[], ["nonsense"]])
def test_wrong_usage_gives_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_user_error_is_one_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(entry, "COMMANDS", (*COMMANDS, Failing))
    assert main(["fail"]) == 1
    assert capsys.readouterr() == ("", "xtc-ds: error: the reason\n")


@pytest.mark.parametrize("arguments", [["--debug", "fail"], ["fail", "--debug"]])
def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setattr(entry, "COMMANDS", (*COMMANDS, Failing))
    with pytest.raises(ConfigError):
        main(arguments)


def test_debug_is_off_by_default() -> None:
    assert build_parser().parse_args(["schema"]).debug is False


def test_a_reader_that_goes_away_causes_no_traceback() -> None:
    command = f"{sys.executable} -m xtc_ds.cli.main schema | head -c 10"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    assert len(done.stdout) == 10
