"""Reader of the original TSV release of GLUE (Wang et al. 2019): nine tasks, one layout each.

The files are tab-separated UTF-8 without any quoting: a ``"`` is text. Every row is checked before
anything trains; a row that does not fit is an error with file and line.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xtc_ds.errors import DataError
from xtc_ds.launcher.tasks.text import Split

__all__ = ["LAYOUTS", "Layout", "read", "read_split"]

_BINARY = {"0": 0, "1": 1}
_ENTAILMENT = {"entailment": 0, "not_entailment": 1}
_INFERENCE = {"entailment": 0, "neutral": 1, "contradiction": 2}
_DEV = {"dev": "dev.tsv"}
_DEV_MNLI = {"matched": "dev_matched.tsv", "mismatched": "dev_mismatched.tsv"}
_MAX_SCORE = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The columns of a task's files.

    ``texts`` and ``label`` are names in the header. For a file without a header, ``columns`` gives names to its
    columns. ``values`` maps the entries of the label column to class indices; None means a score from 0 to 5.
    ``broken_rows`` is the fraction of rows that may be malformed and are then skipped with a warning.
    """

    folder: str
    texts: tuple[str, ...]
    label: str
    values: Mapping[str, int] | None
    columns: tuple[str, ...] | None = None
    dev: Mapping[str, str]
    broken_rows: float = 0.0


_PAIR = ("sentence1", "sentence2")

LAYOUTS: dict[str, Layout] = {
    "cola": Layout(
        folder="CoLA",
        texts=("sentence",),
        label="label",
        values=_BINARY,
        columns=("source", "label", "original mark", "sentence"),
        dev=_DEV,
    ),
    "mnli": Layout(folder="MNLI", texts=_PAIR, label="gold_label", values=_INFERENCE, dev=_DEV_MNLI),
    "mrpc": Layout(folder="MRPC", texts=("#1 String", "#2 String"), label="Quality", values=_BINARY, dev=_DEV),
    "qnli": Layout(folder="QNLI", texts=("question", "sentence"), label="label", values=_ENTAILMENT, dev=_DEV),
    # The released QQP files have a few dozen rows cut by line breaks inside a question, among 364 thousand.
    "qqp": Layout(
        folder="QQP",
        texts=("question1", "question2"),
        label="is_duplicate",
        values=_BINARY,
        dev=_DEV,
        broken_rows=0.001,
    ),
    "rte": Layout(folder="RTE", texts=_PAIR, label="label", values=_ENTAILMENT, dev=_DEV),
    "sst2": Layout(folder="SST-2", texts=("sentence",), label="label", values=_BINARY, dev=_DEV),
    "stsb": Layout(folder="STS-B", texts=_PAIR, label="score", values=None, dev=_DEV),
    "wnli": Layout(folder="WNLI", texts=_PAIR, label="label", values=_BINARY, dev=_DEV),
}


def read(name: str, data_dir: str | os.PathLike[str]) -> tuple[Split, dict[str, Split]]:
    """Read the training split and the dev splits of a GLUE task.

    ``data_dir`` holds the task's folder (``CoLA``, ``SST-2``, ...; any case, with or without the hyphen)
    or is that folder. Raises ``DataError`` for a missing folder or file and for the first row that is
    wrong, with file, line, what was found and what was expected.
    """
    layout = LAYOUTS[name]
    folder = _find_folder(Path(data_dir), layout)
    train = read_split(folder / "train.tsv", layout)
    return train, {key: read_split(folder / file, layout) for key, file in layout.dev.items()}


def read_split(path: Path, layout: Layout) -> Split:
    """Read one TSV file. Raises ``DataError`` as ``read`` does."""
    lines = _read_lines(path)
    if layout.columns is None:
        columns, first = _header(path, lines[0], layout), 1
    else:
        columns, first = layout.columns, 0
    if len(lines) == first:
        raise DataError(f"{path}: no rows after the header")
    rows: list[tuple[list[str], float]] = []
    broken: list[str] = []
    allowed = int(layout.broken_rows * (len(lines) - first))
    text_at = [columns.index(name) for name in layout.texts]
    label_at = columns.index(layout.label)
    for number, line in enumerate(lines[first:], start=first + 1):
        try:
            rows.append(_row(line, columns, text_at, label_at, layout))
        except DataError as error:
            broken.append(f"line {number}: {error}")
            if len(broken) > allowed:
                limit = f" (and {allowed} earlier rows, as many as may be skipped)" if allowed else ""
                raise DataError(f"{path}, {broken[-1]}{limit}") from None
    if broken:
        warnings.warn(f"{path}: skipped {len(broken)} broken rows, the first at {broken[0]}", stacklevel=2)
    texts_b = [texts[1] for texts, _ in rows] if len(text_at) == 2 else None
    labels = [label for _, label in rows]
    return Split(
        [texts[0] for texts, _ in rows], texts_b, labels if layout.values is None else [int(label) for label in labels]
    )


def _row(
    line: str, columns: tuple[str, ...], text_at: list[int], label_at: int, layout: Layout
) -> tuple[list[str], float]:
    cells = line.split("\t")
    if len(cells) != len(columns):
        raise DataError(
            f"{len(cells)} columns; expected {len(columns)}: {', '.join(columns)}; found {_shorten(line)!r}"
        )
    texts = [cells[at] for at in text_at]
    for at, text in zip(text_at, texts, strict=True):
        if not text.strip():
            raise DataError(f"column {columns[at]!r} is empty; expected a sentence")
    return texts, _label(cells[label_at], layout)


def _label(cell: str, layout: Layout) -> float:
    value = cell.strip()
    if layout.values is not None:
        if value not in layout.values:
            raise DataError(f"unknown label {_shorten(cell)!r}; expected one of {', '.join(layout.values)}")
        return layout.values[value]
    try:
        score = float(value)
    except ValueError:
        score = math.nan
    if not 0.0 <= score <= _MAX_SCORE:  # NaN fails too
        raise DataError(f"column {layout.label!r} is {_shorten(cell)!r}; expected a number from 0 to {_MAX_SCORE:g}")
    return score


def _header(path: Path, line: str, layout: Layout) -> tuple[str, ...]:
    columns = tuple(name.strip() for name in line.split("\t"))
    wanted = (*layout.texts, layout.label)
    missing = [name for name in wanted if columns.count(name) != 1]
    if missing:
        raise DataError(
            f"{path}, line 1: not the header of {layout.folder}: it must name {', '.join(map(repr, missing))} once; "
            f"found {_shorten(line)!r}"
        )
    return columns


def _read_lines(path: Path) -> list[str]:
    """Return the file's lines without their ends and without blank lines at the end of the file."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; the original GLUE release has it") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The codec counts from behind the byte order mark, which is on line 1 and so moves no line number.
        number = error.object[: error.start].count(b"\n") + 1
        found = error.object[error.start : error.start + 4].hex(" ")
        raise DataError(f"{path}, line {number}: not UTF-8 text; found the bytes {found}") from None
    # Only \n and \r\n end a line here: str.splitlines() would also cut at characters that occur in sentences.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path}: the file is empty")
    return lines


def _find_folder(data_dir: Path, layout: Layout) -> Path:
    if not data_dir.is_dir():
        raise DataError(f"data_dir {data_dir}: {'not a folder' if data_dir.exists() else 'no such folder'}")
    wanted = _letters(layout.folder)
    try:
        found = sorted(path for path in data_dir.iterdir() if _letters(path.name) == wanted and path.is_dir())
    except OSError as error:
        raise DataError(f"data_dir {data_dir}: cannot be read: {error.strerror}") from error
    if len(found) > 1:
        raise DataError(f"data_dir {data_dir}: {' and '.join(path.name for path in found)} could both be meant")
    if found:
        return found[0]
    if _letters(data_dir.resolve().name) == wanted or (data_dir / "train.tsv").exists():
        return data_dir
    raise DataError(f"data_dir {data_dir}: neither has a folder {layout.folder} nor a file train.tsv")


def _letters(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")


def _shorten(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[:length] + "..."
