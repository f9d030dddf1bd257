"""The block's ``toy_factors``."""

from __future__ import annotations

from dataclasses import dataclass

from xtc_ds.config.grouped_section import GroupedSection
from xtc_ds.config.keys import key
from xtc_ds.config.pieces import Group, module_patterns
from xtc_ds.config.section import register_section

__all__ = ["FactorGroup"]


@dataclass(frozen=True, kw_only=True)
class FactorGroup(Group):
    """One group: the weights of the matched layers get this rank."""

    modules: tuple[str, ...] = module_patterns("that can be factored")
    rank: int = key("Columns of the left factor, rows of the right one.", scope="params", examples=(4,), minimum=1)


_GROUP = {"params": {"rank": 4}, "modules": ["dense"]}

register_section(
    GroupedSection[FactorGroup](
        name="toy_factors",
        piece=FactorGroup,
        title="toy factors",
        description="Weights as products of two factors.",
        group_text="One group of modules with its rank.",
        params_text="The rank of this group.",
        params_example={"rank": 4},
        group_example=_GROUP,
        example={"shared_parameters": {"enabled": True}, "different_groups": {"g1": _GROUP}},
        definition="factor_group",
    )
)
