"""Named errors for everything a user can cause.

Each error message says where the mistake is, what was found and how to fix it. Internal invariants use ``assert``
instead and never reach users.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = [
    "ConfigError",
    "DataError",
    "DistillationError",
    "EngineError",
    "ExportError",
    "FormatError",
    "PlanError",
    "Problem",
    "TeacherError",
    "XtcError",
]


@dataclass(frozen=True)
class Problem:
    """One mistake: its place (a JSON key path or a module name) and what is wrong there."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class XtcError(Exception):
    """Base of all errors raised on purpose by ``xtc_ds``."""


class _ProblemsError(XtcError, ValueError):
    """An error that reports every problem found, one per line."""

    def __init__(self, problems: Iterable[Problem] | str) -> None:
        found = (Problem("", problems),) if isinstance(problems, str) else tuple(problems)
        self.problems: tuple[Problem, ...] = found
        super().__init__("\n".join(str(problem) for problem in found))


class ConfigError(_ProblemsError):
    """The JSON is unreadable or breaks the schema; ``problems`` lists every mistake."""


class PlanError(_ProblemsError):
    """The config does not fit the model; ``problems`` lists every mistake."""


class DataError(XtcError, ValueError):
    """A data set is missing, empty or malformed."""


class TeacherError(XtcError, ValueError):
    """The teacher cannot be read or does not fit the student."""


class DistillationError(XtcError, ValueError):
    """A distillation loss cannot be computed from what the models give."""


class FormatError(XtcError, ValueError):
    """A tensor cannot be encoded, packed or unpacked in a weight format."""


class ExportError(XtcError, ValueError):
    """A packed checkpoint cannot be written or read."""


class EngineError(XtcError, RuntimeError):
    """The training engine cannot run the requested compression."""
