"""The embedded task: its labels follow from the text by the stated rule, and from nothing simpler."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from xtc_ds.errors import DataError
from xtc_ds.launcher import load_task
from xtc_ds.launcher.tasks import reviews
from xtc_ds.launcher.tasks.review_words import CLOSERS, DOMAINS, OPENERS, SHARED, STRONG, WEAK
from xtc_ds.launcher.tasks.reviews import Review

Corpus = tuple[list[Review], list[Review]]
ALL = [SHARED, *(own for _, own in DOMAINS.values())]
POSITIVE = {word for own in ALL for word in own.positive}
NEGATIVE = {word for own in ALL for word in own.negative}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return reviews.generate()


def clause_score(clause: str) -> int:
    words = clause.split()
    (adjective,) = set(words) & (POSITIVE | NEGATIVE)
    sign = 1 if adjective in POSITIVE else -1
    if set(words) & {"not", "hardly", "never"}:
        return -2 * sign
    degree = clause[: clause.index(adjective)]
    return sign * (3 if set(words) & set(STRONG) else 1 if any(f" {weak} " in degree for weak in WEAK) else 2)


def oracle(text: str) -> int:
    """Read the label off the sentence, by the rule and the word lists alone."""
    text = text[0].lower() + text[1:].rstrip(".")
    for opener in OPENERS:
        opener = opener[0].lower() + opener[1:]
        text = text.removeprefix(opener + " ")
    for closers in CLOSERS.values():
        for closer in closers:
            text = text.removesuffix(" " + closer)
    if found := re.fullmatch(r"(?:although|even though) .*, (.*)", text):
        return int(clause_score(found[1]) > 0)
    if found := re.fullmatch(r"(.*), although .*", text):
        return int(clause_score(found[1]) > 0)
    if found := re.fullmatch(r".*, (?:but|yet) (.*)", text):
        return int(clause_score(found[1]) > 0)
    return int(sum(clause_score(clause) for clause in text.split(" and ")) > 0)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("The soup was great.", 1),
        ("The soup was hardly great.", 0),
        ("The soup was great, but the bread was a bit awful.", 0),
        ("The soup was slightly great, although the bread was very awful.", 1),
        ("The soup was very great and the bread felt awful.", 1),
        ("The soup was slightly great and the bread felt awful.", 0),
        ("Never mind the hype: the soup did not seem awful for the price.", 1),
    ],
)
def test_the_rule_on_sentences_written_by_hand(text: str, label: int) -> None:
    assert oracle(text) == label


def test_every_label_follows_from_its_sentence(corpus: Corpus) -> None:
    for split in corpus:
        assert [oracle(review.text) for review in split] == [review.label for review in split]


def test_sizes_balance_and_no_sentence_twice(corpus: Corpus) -> None:
    train, dev = corpus
    assert Counter(review.label for review in train) == {0: 3000, 1: 3000}
    assert Counter(review.label for review in dev) == {0: 500, 1: 500}
    assert len({review.text.casefold() for review in train + dev}) == 7000


def test_half_of_dev_has_pairs_that_train_never_has(corpus: Corpus) -> None:
    train, dev = corpus
    seen = {pair for review in train for pair in review.pairs}
    unseen = [review for review in dev if not seen.issuperset(review.pairs)]
    assert len(dev) / 2 <= len(unseen) < len(dev) * 0.6
    assert 0.4 < sum(review.label for review in unseen) / len(unseen) < 0.6
    words = {word for pair in seen for word in pair}
    assert {word for review in dev for pair in review.pairs for word in pair} <= words


def test_length_and_constructions(corpus: Corpus) -> None:
    texts = [review.text.casefold() for review in corpus[0]]
    assert 10 <= sum(len(text.split()) for text in texts) / len(texts) <= 14
    for word in ("not", "hardly", "never", "but", "yet", "although", "even though", "and", *STRONG, *WEAK):
        assert sum(f" {word} " in f" {text}" for text in texts) > 100, word


def test_single_words_do_not_tell_the_label(corpus: Corpus) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    train, dev = corpus
    counts = CountVectorizer(token_pattern=r"\S+")
    model = LogisticRegression(max_iter=300).fit(
        counts.fit_transform([review.text for review in train]), [review.label for review in train]
    )
    score = model.score(counts.transform([review.text for review in dev]), [review.label for review in dev])
    assert score < 0.65


def test_same_sentences_whatever_the_hash_seed() -> None:
    code = "from xtc_ds.launcher.tasks import reviews; print([r.text for s in reviews.generate(40, 20, 3) for r in s])"
    folders = os.pathsep.join(str(Path(module).parents[up]) for module, up in ((reviews.__file__, 1), (__file__, 2)))
    output = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": folders},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output == f"{[review.text for split in reviews.generate(40, 20, 3) for review in split]}\n"
    assert reviews.generate(40, 20, 3) != reviews.generate(40, 20, 4)


def test_loading_does_not_depend_on_the_run_seed() -> None:
    one, two = load_task("reviews", seed=1), load_task("reviews", max_train_samples=64, max_eval_samples=32, seed=2)
    assert (len(one.train), len(one.dev["dev"])) == (6000, 1000)
    assert (len(two.train), len(two.dev["dev"])) == (64, 32)
    assert set(two.train.texts_a) <= set(one.train.texts_a)
    assert set(two.dev["dev"].texts_a) <= set(one.dev["dev"].texts_a)


def test_what_is_refused() -> None:
    with pytest.raises(DataError, match="at least 2 sentences"):
        reviews.generate(1, 10)
    with pytest.raises(DataError, match="reads no files"):
        load_task("reviews", data_dir="somewhere")
