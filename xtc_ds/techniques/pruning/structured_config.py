"""The config keys that row, head and channel pruning share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from xtc_ds.config.grouped_section import GroupedSection
from xtc_ds.config.json_value import Finding
from xtc_ds.config.keys import Old, Patterns, key
from xtc_ds.config.migrate.note import Note
from xtc_ds.config.pieces import Group
from xtc_ds.config.section import register_section
from xtc_ds.config.written import Written
from xtc_ds.techniques.common_keys import schedule_offset

__all__ = [
    "StructuredGroup",
    "StructuredMethod",
    "dense_ratio",
    "method",
    "register_structured",
    "related_modules",
]

StructuredMethod = Literal["l1", "topk"]


def dense_ratio(units: str) -> Any:
    """The key ``dense_ratio`` for ``units`` such as rows."""
    return key(
        f"Share of the {units} that stays; the rest becomes zero.",
        scope="params",
        examples=(0.5,),
        exclusiveMinimum=0,
        maximum=1,
        old=Old(),
    )


def method(units: str, default: StructuredMethod) -> Any:
    """The key ``method`` for ``units`` such as rows."""
    return key(
        f"Which {units} go. l1: those with the smallest sum of absolute weights when the model is prepared. topk: "
        "those with the smallest learned scores.",
        default,
        examples=("l1",),
        old=Old(group_ignored=True),
    )


def related_modules(text: str, example: Iterable[str]) -> Any:
    """The key ``related_modules``. text: what the modules lose; example: the list for one entry of ``modules``."""
    shown = [list(example)]
    return key(
        f"One list of regular expressions for each entry of modules: {text} null: nothing shrinks, what is pruned "
        "stays as zeros.",
        None,
        scope="group",
        examples=(shown,),
        items={
            "type": ["array", "string"],
            "minItems": 1,
            "minLength": 1,
            "x-allowed": "a list of regular expressions",
        },
        minItems=1,
        allowed="a list with one list of regular expressions for each entry of modules, such as "
        f"{json.dumps(shown)}, or null",
        old=Old(),
        patterns=Patterns(star="would shrink every module", example="self.query"),
    )


@dataclass(frozen=True, kw_only=True)
class StructuredGroup(Group):
    """One group of ``row_pruning``, ``head_pruning`` or ``channel_pruning``: whole rows, heads or channels are pruned.

    ``related_modules`` has one tuple of patterns for each pattern of ``modules``, for the modules that lose the
    matching inputs (for heads: outputs), so that both shrink when the model is frozen; None: pruned parts become zeros.
    """

    dense_ratio: float
    method: StructuredMethod
    schedule_offset: int = schedule_offset(1000, examples=(0, 2000))
    related_modules: tuple[tuple[str, ...], ...] | None

    @classmethod
    def check(cls, written: Written) -> Iterator[Finding]:
        """Report lists of unequal length."""
        related = written["related_modules"] if written.whole else None
        count = len(written["modules"]) if written.whole else 0
        if related is not None and len(related) != count:
            lists = "1 list" if count == 1 else f"{count} lists"
            what = f"not as long as modules; found {written.shown('related_modules')}"
            yield written.place("related_modules"), f"{what}; allowed: {lists}, one for each entry of modules"

    @classmethod
    def warn(cls, written: Written) -> Iterator[Finding]:
        """Warn about keys without effect."""
        if written["dense_ratio"] == 1:
            yield written.place("dense_ratio"), "nothing is pruned; found 1"


G = TypeVar("G", bound=StructuredGroup)


def register_structured(
    piece: type[G],
    units: str,
    description: str,
    modules: str,
    migrate: Callable[[dict[str, Any]], list[Note]],
    shared_example: Mapping[str, Any] | None = None,
) -> GroupedSection[G]:
    """Register the pruning of ``units`` (such as "rows"); ``modules`` is a pattern for the example."""
    unit = units.removesuffix("s")
    params = {"dense_ratio": 0.5}
    return register_section(
        GroupedSection[G](
            name=f"{unit}_pruning",
            piece=piece,
            title=f"{unit} pruning",
            description=description,
            group_text=f"One group of modules with the share of {units} that stays.",
            params_text="Keys of this group; all but dense_ratio override shared_parameters.",
            params_example=params,
            group_example={"params": params, "modules": ["attention"]},
            example={
                "shared_parameters": {"enabled": True, **(shared_example or {})},
                "different_groups": {"g1": {"params": params, "modules": [modules]}},
            },
            definition=f"{unit}_group",
            unread_when_off=True,
            old=True,
            migrate=migrate,
        )
    )
