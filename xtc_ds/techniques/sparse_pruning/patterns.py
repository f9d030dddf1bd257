"""The units that are pruned as a whole: single weights, blocks "RxC", or N of M adjacent inputs "N:M".

Shape legend: O and I = output and input features or channels, P = positions of a convolution's kernel (1 for a
matrix), U = units along the inputs. Weights are (O, I) or (O, I, kH, kW).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from xtc_ds.techniques.pruning.top import kept_count, top_mask

__all__ = ["Blocks", "KeepOf", "Pattern", "Singles", "parse_pattern"]


class Pattern(Protocol):
    """Converts scores of single weights to scores of units, and these to a mask."""

    def misfit(self, shape: tuple[int, ...]) -> str | None:
        """The reason why a weight of ``shape`` cannot be divided into units; None if it can."""
        ...

    def unit_scores(self, scores: Tensor) -> Tensor:
        """Convert scores of the weight's shape to scores of its units; the conversion is linear."""
        ...

    def mask(self, unit_scores: Tensor, dense_ratio: float, shape: tuple[int, ...]) -> Tensor:
        """A mask of ``shape`` in the scores' dtype: 1 for kept weights, else 0."""
        ...


@dataclass(frozen=True)
class Singles:
    """Single weights."""

    def misfit(self, shape: tuple[int, ...]) -> str | None:
        """None: any weight fits."""
        return None

    def unit_scores(self, scores: Tensor) -> Tensor:
        """The scores themselves."""
        return scores

    def mask(self, unit_scores: Tensor, dense_ratio: float, shape: tuple[int, ...]) -> Tensor:
        """Keep the share ``dense_ratio`` of weights with the largest scores."""
        return top_mask(unit_scores, kept_count(dense_ratio, unit_scores.numel()))


@dataclass(frozen=True)
class Blocks:
    """Blocks of ``rows`` outputs by ``columns`` inputs (of one kernel position) are kept or pruned as a whole."""

    rows: int
    columns: int

    def misfit(self, shape: tuple[int, ...]) -> str | None:
        """``rows`` must divide the outputs and ``columns`` the inputs."""
        if shape[0] % self.rows:
            return f"{self.rows} does not divide its {shape[0]} outputs"
        return f"{self.columns} does not divide its {shape[1]} inputs" if shape[1] % self.columns else None

    def unit_scores(self, scores: Tensor) -> Tensor:
        """The mean of each block, (O / rows, U)."""
        matrix = _to_matrix(scores)
        across, down = matrix.shape[1] // self.columns, matrix.shape[0] // self.rows
        return matrix.reshape(down, self.rows, across, self.columns).mean(dim=(1, 3))

    def mask(self, unit_scores: Tensor, dense_ratio: float, shape: tuple[int, ...]) -> Tensor:
        """Keep the share ``dense_ratio`` of blocks with the largest scores."""
        mask = top_mask(unit_scores, kept_count(dense_ratio, unit_scores.numel()))
        whole = mask.repeat_interleave(self.rows, 0).repeat_interleave(self.columns, 1)
        return _from_matrix(whole, shape)


@dataclass(frozen=True)
class KeepOf:
    """Of every ``of`` adjacent inputs (of one kernel position) ``kept`` are kept: "2:4" is KeepOf(2, 4)."""

    kept: int
    of: int

    def misfit(self, shape: tuple[int, ...]) -> str | None:
        """``of`` must divide the inputs."""
        return f"{self.of} does not divide its {shape[1]} inputs" if shape[1] % self.of else None

    def unit_scores(self, scores: Tensor) -> Tensor:
        """Scores of single weights, arranged such that inputs of one kernel position are adjacent, (O, P * I)."""
        return _to_matrix(scores)

    def mask(self, unit_scores: Tensor, dense_ratio: float, shape: tuple[int, ...]) -> Tensor:
        """Keep the ``kept`` largest scores of each group.

        While ``dense_ratio`` is above kept / of, only the necessary number of groups is pruned: those for which the sum
        of the scores to be pruned is smallest.
        """
        groups = unit_scores.reshape(-1, self.of)
        order = groups.sort(dim=1, descending=True, stable=True)
        mask = torch.ones_like(groups).scatter_(1, order.indices[:, self.kept :], 0)
        loss = order.values[:, self.kept :].sum(dim=1)
        pruned = self.pruned_groups(dense_ratio, len(groups))
        untouched = top_mask(loss, len(groups) - pruned).unsqueeze(1)
        return _from_matrix(torch.maximum(mask, untouched).reshape(unit_scores.shape), shape)

    def pruned_groups(self, dense_ratio: float, groups: int) -> int:
        """How many of ``groups`` to prune so that the share ``dense_ratio`` of the weights is kept."""
        # The small addend compensates for float rounding.
        share = (1 - dense_ratio) / (1 - self.kept / self.of) if self.kept < self.of else 0.0
        return min(groups, math.floor(share * groups + 1e-6))


def parse_pattern(text: str | None) -> Pattern:
    """The pattern for a ``block_pattern`` that has passed the config's checks; None means single weights."""
    if text is None:
        return Singles()
    if ":" in text:
        kept, of = (int(part) for part in text.split(":"))
        return KeepOf(kept, of)
    rows, columns = (int(part) for part in text.split("x"))
    return Blocks(rows, columns)


def _to_matrix(w: Tensor) -> Tensor:
    """(O, I) unchanged; (O, I, kH, kW) to (O, P * I), with the inputs of one position adjacent."""
    return w if w.dim() == 2 else w.flatten(2).transpose(1, 2).flatten(1)


def _from_matrix(matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The inverse of ``_to_matrix``."""
    if len(shape) == 2:
        return matrix
    return matrix.reshape(shape[0], -1, shape[1]).transpose(1, 2).reshape(shape)
