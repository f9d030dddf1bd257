"""The built-in demo task: review sentences from a small grammar, with labels that are exact by construction.

A review has one or two clauses. A clause is a statement about a subject, ``the soup was very tasty``, and has
a score, positive for praise:

- the adjective gives the sign;
- the strength is 2, or 3 with words such as ``very``, or 1 with words such as ``slightly``;
- a negation (``not``, ``hardly``, ``never``) inverts the sign and sets the strength to 2, because ``not very
  tasty`` is no stronger than ``not tasty``.

The label is the sign of the score of the whole review:

- one clause: its score;
- contrast (``X, but Y``; ``X, yet Y``; ``although X, Y``; ``Y, although X``): the clauses have opposite
  signs, and that of Y, after the ``but`` or outside the ``although``, is the label, however weak it is;
- ``X and Y``: the sum of both scores, which is never 0.

Openers and closers (``for the price``, ``never mind the hype:``) have no effect; some contain a negation that
applies to no clause. Everything is symmetric in the sign, so that no single word predicts the label.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from xtc_ds.errors import DataError
from xtc_ds.launcher.tasks.base import DataOptions, TaskData
from xtc_ds.launcher.tasks.registry import register_task
from xtc_ds.launcher.tasks.review_words import CLOSERS, DOMAINS, OPENERS, SHARED, STRONG, WEAK, Adjectives
from xtc_ds.launcher.tasks.text import Split, TextTask

__all__ = ["DEV_SIZE", "TASK", "TRAIN_SIZE", "Clause", "Review", "ReviewsTask", "generate"]

TRAIN_SIZE = 6000
DEV_SIZE = 1000
# The corpus is a fixed data set: the seed of a run must not move sentences between train and dev.
_CORPUS_SEED = 20220604
_HELD_OUT = 0.2
_NEGATED = 0.35
_TRIES = 200

_Choice = TypeVar("_Choice")

_NEGATIONS: dict[str, dict[str, str]] = {
    "was": {"not": "was not", "hardly": "was hardly", "never": "was never"},
    "felt": {"not": "did not feel", "hardly": "hardly felt", "never": "never felt"},
    "seemed": {"not": "did not seem", "hardly": "hardly seemed", "never": "never seemed"},
}
_CONTRAST = ("{x}, but {y}", "{x}, yet {y}", "although {x}, {y}", "even though {x}, {y}", "{y}, although {x}")


@dataclass(frozen=True, slots=True)
class Clause:
    """``the <subject> <verb> <adjective>`` and its score, -3 to 3 and never 0."""

    text: str
    score: int
    pair: tuple[str, str]  # subject and adjective


@dataclass(frozen=True, slots=True)
class Review:
    """A sentence, its label (1 is positive) and the (subject, adjective) pairs in it."""

    text: str
    label: int
    pairs: tuple[tuple[str, str], ...]


class ReviewsTask(TextTask):
    """The built-in demo task: always the same sentences, without files."""

    def load(self, options: DataOptions) -> TaskData:
        """Generate the sentences. Raises ``DataError`` if the user named a data folder."""
        if options.data_dir is not None:
            raise DataError(
                f"the embedded task 'reviews' reads no files, but data_dir is {str(options.data_dir)!r}; "
                "name a GLUE task with --task_name, or leave --data_dir out"
            )
        train, dev = generate()
        return TaskData(self, _split(train), {"dev": _split(dev)})


def generate(
    train_size: int = TRAIN_SIZE, dev_size: int = DEV_SIZE, seed: int = _CORPUS_SEED
) -> tuple[list[Review], list[Review]]:
    """Return (train, dev): distinct sentences, each split half positive, no sentence in both.

    A fifth of all (subject, adjective) pairs never occur in train; every second dev sentence has one. The
    same seed gives the same sentences on every platform. Raises ``DataError`` for a size below 2 and for
    more sentences than the grammar can tell apart.
    """
    if min(train_size, dev_size) < 2:
        raise DataError(f"the review task needs at least 2 sentences a split; found {train_size} and {dev_size}")
    dice = _Dice(seed)
    held_out = frozenset(pair for pair in _all_pairs() if dice.chance(_HELD_OUT))
    used: set[str] = set()
    train = [_new(dice, row % 2, held_out, False, used) for row in range(train_size)]
    # The label alternates by row and the unseen pair by every second row, so that all four cases are equally frequent.
    dev = [_new(dice, row % 2, held_out, row // 2 % 2 == 1, used) for row in range(dev_size)]
    return train, dev


def _new(dice: _Dice, label: int, held_out: frozenset[tuple[str, str]], unseen: bool, used: set[str]) -> Review:
    """Draw a sentence not yet ``used``, with that label, that has a held-out pair or (``unseen`` false) has none."""
    shape = dice.shape()
    for _ in range(_TRIES):
        review = _draw(dice, shape, 1 if label else -1, frozenset() if unseen else held_out)
        if review.text not in used and (not unseen or not held_out.isdisjoint(review.pairs)):
            used.add(review.text)
            return review
    raise DataError(f"the review grammar has too few sentences: {len(used)} found; ask for fewer")


def _draw(dice: _Dice, shape: str, sign: int, banned: frozenset[tuple[str, str]]) -> Review:
    """Draw a review whose label is that of ``sign`` (1 or -1), without the ``banned`` pairs."""
    domain = dice.pick(tuple(DOMAINS))
    pairs: tuple[tuple[str, str], ...]
    if shape == "single":
        clause = _clause(dice, domain, sign, banned)
        text, pairs = clause.text, (clause.pair,)
    else:
        text, pairs = _joined(dice, shape, sign, domain, banned)
    opener = dice.pick(OPENERS) + " " if dice.chance(0.35) else ""
    closer = " " + dice.pick(CLOSERS[domain]) if dice.chance(0.3) else ""
    text = f"{opener}{text}{closer}."
    return Review(text[0].upper() + text[1:], int(sign > 0), pairs)


def _joined(
    dice: _Dice, shape: str, sign: int, domain: str, banned: frozenset[tuple[str, str]]
) -> tuple[str, tuple[tuple[str, str], ...]]:
    while True:
        decides = _clause(dice, domain, sign, banned)
        other = _clause(dice, domain, sign if shape == "agree" else -sign, banned)
        if decides.pair[0] == other.pair[0] or decides.pair[1] == other.pair[1]:
            continue
        if shape == "contrast":
            text = dice.pick(_CONTRAST).format(x=other.text, y=decides.text)
        elif (decides.score + other.score) * sign > 0:
            first, second = (decides, other) if dice.chance(0.5) else (other, decides)
            text = f"{first.text} and {second.text}"
        else:
            continue
        return text, (decides.pair, other.pair)


def _clause(dice: _Dice, domain: str, sign: int, banned: frozenset[tuple[str, str]]) -> Clause:
    """Draw a clause whose score has that sign."""
    subjects, own = DOMAINS[domain]
    verb, negated = dice.pick(tuple(_NEGATIONS)), dice.chance(_NEGATED)
    adjectives = _adjectives(own, (sign > 0) != negated)
    pair = dice.pick(subjects), dice.pick(adjectives)
    while pair in banned:
        pair = dice.pick(subjects), dice.pick(adjectives)
    if negated:
        verb = _NEGATIONS[verb][dice.pick(("not", "hardly", "never"))]
        degree, strength = dice.pick(STRONG) + " " if dice.chance(0.25) else "", 2
    else:
        strength = dice.pick((1, 2, 3))
        degree = {1: dice.pick(WEAK) + " ", 2: "", 3: dice.pick(STRONG) + " "}[strength]
    return Clause(f"the {pair[0]} {verb} {degree}{pair[1]}", sign * strength, pair)


def _adjectives(own: Adjectives, positive: bool) -> tuple[str, ...]:
    return own.positive + SHARED.positive if positive else own.negative + SHARED.negative


def _all_pairs() -> Iterator[tuple[str, str]]:
    for subjects, own in DOMAINS.values():
        for subject in subjects:
            for adjective in _adjectives(own, True) + _adjectives(own, False):
                yield subject, adjective


def _split(reviews: Sequence[Review]) -> Split:
    return Split([review.text for review in reviews], None, [review.label for review in reviews])


class _Dice:
    """Draws only with ``random.Random.random``, the one method with guaranteed results in all Python versions."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def pick(self, choices: Sequence[_Choice]) -> _Choice:
        return choices[int(self._random() * len(choices))]

    def shape(self) -> str:
        return self.pick(("single",) * 5 + ("contrast",) * 10 + ("agree",) * 2 + ("outweigh",) * 3)


TASK = ReviewsTask(name="reviews", keys=("sentence",), labels=("negative", "positive"))
register_task(TASK)
