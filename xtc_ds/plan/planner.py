"""What the plan asks of a technique, and what it tells it."""

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
    """What a technique plans with. Nothing of it may be changed.

    model: as it was given, possibly on the meta device or partitioned by ZeRO-3.
    modules: the model's modules by the names that they have after the techniques planned before this one.
    section: the technique's piece of the config.
    rows: of the techniques planned before, by technique name.
    """

    model: nn.Module
    modules: dict[str, nn.Module]
    config: CompressionConfig
    section: Any
    teacher: nn.Module | None
    rows: Mapping[str, tuple[Row, ...]]


@dataclass
class Planned:
    """What a technique will do, in module order, and what is wrong or remarkable.

    modules: the names of the remaining modules where the technique drops or renames some; None: as before.
    """

    rows: list[Row] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    modules: dict[str, nn.Module] | None = None


class Planner(Protocol):
    """The part of a technique that makes the plan."""

    @property
    def name(self) -> str:
        """The key in the config."""
        ...

    @property
    def empty_report(self) -> Mapping[str, Any]:
        """What the plan as JSON says where the technique has no rows."""
        ...

    @property
    def conflicts(self) -> tuple[str, ...]:
        """Names of techniques that cannot be used on the same model."""
        ...

    def section(self, config: CompressionConfig) -> Any:
        """The technique's piece of the config; None or empty where it is off."""
        ...

    def plan(self, context: PlanContext) -> Planned:
        """Rows, problems and warnings; a pure function. May raise PlanError where nothing more can be said."""
        ...

    def check(self, rows: Sequence[Row], context: PlanContext) -> list[Problem]:
        """Problems that show only once every technique is planned; ``context.rows`` holds the rows of all."""
        ...
