"""The block's ``sparse_pruning``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from xtc_ds.config.grouped_section import GroupedSection
from xtc_ds.config.json_value import Finding
from xtc_ds.config.keys import Old, Patterns, key
from xtc_ds.config.pieces import Group
from xtc_ds.config.section import register_section
from xtc_ds.config.written import Written
from xtc_ds.techniques.common_keys import no_related_modules, schedule_offset
from xtc_ds.techniques.sparse_pruning.checks import SNIP, check_group, in_force, warn_group
from xtc_ds.techniques.sparse_pruning.migrate import migrate_sparse

__all__ = ["SPARSE_PRUNING", "PruningMethod", "SparseGroup"]

PruningMethod = Literal["l1", "topk", "snip_momentum"]


@dataclass(frozen=True, kw_only=True)
class SparseGroup(Group):
    """One group of ``sparse_pruning``: single weights, or blocks of them, are set to zero.

    ``dense_ratio`` is the share that is kept. ``block_pattern`` is "RxC" (blocks of R outputs by C inputs), "N:M" (N of
    M adjacent inputs are kept) or None for single weights. ``schedule_offset_end`` and ``schedule_offset_stride`` count
    applied optimizer steps; the end is None if the sparsity does not rise gradually. The patterns of
    ``excluded_modules`` are merged into ``exclude``.
    """

    method: PruningMethod = key(
        "Which weights go. l1: the smallest ones when the model is prepared. topk: those with the smallest learned "
        "scores. snip_momentum: those whose gradient and size say that they matter least, more and more of them up to "
        "schedule_offset_end.",
        "l1",
        examples=("l1",),
        old=Old(group_ignored=True),
    )
    schedule_offset: int = schedule_offset(1000, examples=(0, 2000))
    schedule_offset_end: int | None = key(
        "Step at which snip_momentum has reached dense_ratio; at least schedule_offset. null: schedule_offset, that "
        "is, all at once. No effect on the other methods.",
        None,
        examples=(5000,),
        minimum=0,
        old=Old(),
    )
    schedule_offset_stride: int = key(
        "Steps from one renewal of the mask of snip_momentum to the next. No effect on the other methods.",
        1,
        examples=(100,),
        minimum=1,
        old=Old(),
    )
    block_pattern: str | None = key(
        'What becomes zero together. "RxC": blocks of R outputs by C inputs. "N:M": of M neighbouring inputs N stay, '
        "which fixes dense_ratio at N/M. null: single weights; for snip_momentum 4x1.",
        None,
        examples=("4x1", "2:4"),
        pattern="^[1-9][0-9]{0,3}[x:][1-9][0-9]{0,3}$",
        minLength=None,
        allowed='blocks such as "4x1", N of M such as "2:4", or null',
        old=Old(),
    )
    dense_ratio: float = key(
        "Share of the weights or blocks that stays; the rest becomes zero. Default: 0.1 for snip_momentum, N/M for an "
        "N:M block_pattern; otherwise each group needs one.",
        examples=(0.5,),
        exclusiveMinimum=0,
        maximum=1,
        depends=True,
        old=Old(),
    )
    excluded_modules: tuple[str, ...] = key(
        "Regular expressions; a module whose full name matches one of them is left out of every group.",
        (),
        examples=(("classifier", "pooler"),),
        allowed='a list of regular expressions such as ["classifier"]',
        old=Old(),
        patterns=Patterns(star="would leave out every module", example="embeddings"),
    )
    related_modules: None = no_related_modules()

    @classmethod
    def read(cls, written: Written) -> Self:
        """The group with its effective values, including the defaults of its method."""
        force = in_force(written)
        values = written.values() | {
            "exclude": (*written["exclude"], *written["excluded_modules"]),
            "excluded_modules": (),
            "dense_ratio": float(force.dense_ratio),
            "block_pattern": force.block_pattern,
            "schedule_offset_end": None if force.end is None else int(force.end),
        }
        return cls(**cls.label(written), **values)

    @classmethod
    def implied(cls, shared: Mapping[str, Any]) -> bool:
        """snip_momentum without a group, as in old configs, prunes all modules except ``excluded_modules``."""
        return shared.get("method") == SNIP

    @classmethod
    def check(cls, written: Written) -> Iterable[Finding]:
        """Report patterns, shares and steps that contradict each other."""
        return check_group(written)

    @classmethod
    def warn(cls, written: Written) -> Iterable[Finding]:
        """Warn about keys without effect."""
        return warn_group(written)


_GROUP = {"params": {"dense_ratio": 0.5}, "modules": ["attention"]}

SPARSE_PRUNING = register_section(
    GroupedSection[SparseGroup](
        name="sparse_pruning",
        piece=SparseGroup,
        title="sparse pruning",
        description="Single weights, or small blocks of them, become zero.",
        groups_text="snip_momentum without a group takes every module but excluded_modules.",
        group_text="One group of modules with the share of weights that stays.",
        params_text="Keys of this group; they override shared_parameters.",
        params_example={"dense_ratio": 0.5},
        group_example=_GROUP,
        example={"shared_parameters": {"enabled": True, "method": "l1"}, "different_groups": {"sp1": _GROUP}},
        definition="sparse_group",
        unread_when_off=True,
        old=True,
        migrate=migrate_sparse,
    )
)
