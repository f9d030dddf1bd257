"""The words of the review grammar (``reviews.py``)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CLOSERS", "DOMAINS", "OPENERS", "SHARED", "STRONG", "WEAK", "Adjectives"]


@dataclass(frozen=True, slots=True)
class Adjectives:
    """Words of praise and of blame."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(phrase.strip() for phrase in text.split("|"))


STRONG = _words("very really extremely truly")
WEAK = _phrases("slightly | somewhat | a little | a bit")

SHARED = Adjectives(
    _words("good great excellent wonderful impressive lovely pleasant fantastic"),
    _words("bad poor awful terrible disappointing dreadful unpleasant horrible"),
)

# Each domain: its subjects, and the adjectives that only go with them.
DOMAINS: dict[str, tuple[tuple[str, ...], Adjectives]] = {
    "film": (
        _phrases(
            "plot | acting | soundtrack | ending | dialogue | camera work | opening scene | humour | cast | script"
        ),
        Adjectives(
            _words("gripping moving clever funny original believable charming inventive"),
            _words("boring predictable clumsy shallow tedious confusing lifeless silly"),
        ),
    ),
    "food": (
        _phrases("soup | dessert | steak | waiter | bread | coffee | pasta | fish | salad | wine"),
        Adjectives(
            _words("delightful superb outstanding remarkable satisfying memorable marvellous splendid"),
            _words("disgusting revolting forgettable underwhelming unacceptable lousy pathetic miserable"),
        ),
    ),
    "hotel": (
        _phrases("room | bed | breakfast | lobby | pool | view | bathroom | garden | terrace | suite"),
        Adjectives(
            _words("comfortable spotless cosy elegant inviting spacious relaxing luxurious"),
            _words("dirty shabby cramped gloomy noisy neglected filthy smelly"),
        ),
    ),
    "product": (
        _phrases("battery | screen | keyboard | speaker | camera | charger | software | case | microphone | manual"),
        Adjectives(
            _words("reliable sturdy useful handy durable accurate responsive practical"),
            _words("flimsy useless faulty defective unreliable fragile sluggish annoying"),
        ),
    ),
    "book": (
        _phrases(
            "story | prose | main character | final chapter | style | translation | cover | preface | villain | pace"
        ),
        Adjectives(
            _words("captivating brilliant witty vivid touching thrilling fascinating elegant"),
            _words("dull tiresome pretentious contrived wooden forced bland irritating"),
        ),
    ),
}

OPENERS = _phrases(
    "to be honest, | all in all, | this time, | as far as we could tell, | to sum up, | as my friends had told me, | "
    "once again, | in my opinion, | not long ago I would have disagreed: | never mind the hype:"
)

CLOSERS: dict[str, tuple[str, ...]] = {
    "film": _phrases("from start to finish | for a first feature | in the second half | on the big screen"),
    "food": _phrases("on our last visit | for the price | that evening | in the new restaurant"),
    "hotel": _phrases("during our stay | for the price | at the weekend | in the high season"),
    "product": _phrases("after a month of use | for the price | out of the box | in daily life"),
    "book": _phrases("from the first page on | for a debut | in the second half | in this edition"),
}
