"""The interface between the plan and the techniques."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from xtc_ds.config import CompressionConfig
from xtc_ds.errors import Problem
from xtc_ds.plan.rows import Row

__all__ = ["PlanContext", "Planned", "Planner"]


@dataclass(frozen=True)
class PlanContext:
    """The input of a technique's planning. It must not be modified.

    model: the original model, possibly on the meta device or partitioned by ZeRO-3.
    modules: name to module, with the names that modules have after the techniques planned before this one.
    section: the technique's section of the config.
    rows: technique name to rows, for the techniques planned before this one.
    """

    model: nn.Module
    modules: dict[str, nn.Module]
    config: CompressionConfig
    section: Any
    teacher: nn.Module | None
    rows: Mapping[str, tuple[Row, ...]]


@dataclass
class Planned:
    """What a technique will do, in module order, with problems and warnings.

    modules: name to module for all remaining modules, if the technique drops or renames some; None: unchanged.
    """

    rows: list[Row] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    modules: dict[str, nn.Module] | None = None


class Planner(Protocol):
    """The part of a technique that takes part in planning."""

    @property
    def name(self) -> str:
        """The key in the config."""
        ...

    @property
    def empty_report(self) -> Mapping[str, Any]:
        """Entries of the JSON plan if the technique has no rows."""
        ...

    @property
    def conflicts(self) -> tuple[str, ...]:
        """Names of techniques that cannot be combined with this one."""
        ...

    def section(self, config: CompressionConfig) -> Any:
        """The technique's section of the config; None or empty if the technique is off."""
        ...

    def plan(self, context: PlanContext) -> Planned:
        """Rows, problems and warnings, without side effects. May raise PlanError if planning cannot continue."""
        ...

    def check(self, rows: Sequence[Row], context: PlanContext) -> list[Problem]:
        """Problems that can be found only after every technique is planned; ``context.rows`` holds the rows of all."""
        ...
