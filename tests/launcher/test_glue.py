"""The GLUE reader: real files where there are any, every layout in miniature, and every way to be wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xtc_ds.errors import DataError
from xtc_ds.launcher import DataOptions, get_task, load_task
from xtc_ds.launcher.tasks import glue_files

_ROOT = Path(__file__).resolve().parents[2]
GLUE_DIR = Path(os.environ.get("XTC_GLUE_DIR") or _ROOT.parent / "shared" / "glue")
needs_glue = pytest.mark.skipif(not GLUE_DIR.is_dir(), reason=f"no GLUE files: {GLUE_DIR}; set XTC_GLUE_DIR")

MNLI_HEAD = [
    "index",
    "promptID",
    "pairID",
    "genre",
    "sentence1_binary_parse",
    "sentence2_binary_parse",
    "sentence1_parse",
    "sentence2_parse",
    "sentence1",
    "sentence2",
    "label1",
]
# Header (None where the release has none) and two rows of every task, cell by cell.
SMALL: dict[str, tuple[str, list[str] | None, list[list[str]]]] = {
    "cola": ("CoLA", None, [["gj04", "1", "", 'He said "no'], ["gj04", "0", "*", "They drank the pub."]]),
    "mrpc": (
        "MRPC",
        ["\ufeffQuality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
        [["1", "11", "12", '" A', 'B "'], ["0", "21", "22", "C", "D"]],
    ),
    "qnli": (
        "QNLI",
        ["index", "question", "sentence", "label"],
        [["0", "Who?", "He.", "entailment"], ["1", "Why?", "So.", "not_entailment"]],
    ),
    "qqp": (
        "QQP",
        ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
        [["1", "2", "3", "A?", "B?", "0"], ["4", "5", "6", "C?", "D?", "1"]],
    ),
    "rte": (
        "RTE",
        ["index", "sentence1", "sentence2", "label"],
        [["0", "A.", "B.", "not_entailment"], ["1", "C.", "D.", "entailment"]],
    ),
    "sst2": ("SST-2", ["sentence", "label"], [["hide new secretions ", "0"], ["charming", "1"]]),
    "stsb": (
        "STS-B",
        ["index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2", "score"],
        [["0", "g", "f", "y", "1", "s", "t", "A.", "B.", "5.000"], ["1", "g", "f", "y", "2", "s", "t", "C", "D", "0"]],
    ),
    "wnli": ("WNLI", ["index", "sentence1", "sentence2", "label"], [["0", "A.", "B.", "1"], ["1", "C.", "D.", "0"]]),
}


def write(path: Path, head: list[str] | None, rows: list[list[str]], end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(cells) for cells in ([head] if head else []) + rows]
    path.write_bytes((end.join(lines) + end).encode())


def write_task(data_dir: Path, name: str, end: str = "\n") -> Path:
    folder, head, rows = SMALL[name]
    for file in ("train.tsv", "dev.tsv"):
        write(data_dir / folder / file, head, rows, end)
    return data_dir / folder


@needs_glue
@pytest.mark.parametrize(("name", "train", "dev"), [("cola", 8551, 1043), ("mrpc", 3668, 408), ("sst2", 67349, 872)])
def test_real_files_are_read_to_the_last_row(name: str, train: int, dev: int) -> None:
    data = load_task(name, GLUE_DIR)
    lines = len((GLUE_DIR / glue_files.LAYOUTS[name].folder / "train.tsv").read_bytes().strip(b"\n").split(b"\n"))
    assert len(data.train) == lines - (name != "cola")
    # There are copies of MRPC's train.tsv with one pair less than the 3,668 published.
    assert train - (name == "mrpc") <= len(data.train) <= train
    assert len(data.dev["dev"]) == dev
    assert set(data.train.labels) == {0, 1}
    assert (data.train.texts_b is not None) == (name == "mrpc")


@needs_glue
def test_quotes_and_byte_order_mark_of_the_real_mrpc() -> None:
    data = load_task("mrpc", GLUE_DIR)
    assert data.train.texts_a[0].startswith('Amrozi accused his brother , whom he called " the witness " ,')
    assert data.train.labels[0] == 1


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", SMALL)
def test_every_layout_gives_texts_and_labels(name: str, end: str, tmp_path: Path) -> None:
    write_task(tmp_path, name, end)
    data = load_task(name, tmp_path)
    rows = SMALL[name][2]
    layout = glue_files.LAYOUTS[name]
    columns = [column.removeprefix("\ufeff") for column in layout.columns or SMALL[name][1] or []]
    at = [columns.index(text) for text in layout.texts]
    assert data.train.texts_a == [row[at[0]] for row in rows]
    assert data.train.texts_b == ([row[at[1]] for row in rows] if data.task.is_pair else None)
    assert [type(label) for label in data.train.labels] == [float if name == "stsb" else int] * 2
    assert list(data.dev) == ["dev"]
    expected = {"cola": [1, 0], "mrpc": [1, 0], "qnli": [0, 1], "qqp": [0, 1], "rte": [1, 0], "sst2": [0, 1]}
    assert data.train.labels == {**expected, "stsb": [5.0, 0.0], "wnli": [1, 0]}[name]


def test_mnli_takes_the_gold_label_and_both_dev_sets(tmp_path: Path) -> None:
    cells = ["0", "1n", "1", "fiction", "(b)", "(b)", "(p)", "(p)"]
    write(tmp_path / "MNLI/train.tsv", [*MNLI_HEAD, "gold_label"], [[*cells, "A.", "B.", "neutral", "contradiction"]])
    head = [*MNLI_HEAD, "label2", "label3", "label4", "label5", "gold_label"]
    for name, gold in (("matched", "entailment"), ("mismatched", "neutral")):
        row = [*cells, name, "B.", *["contradiction"] * 5, gold]
        write(tmp_path / f"MNLI/dev_{name}.tsv", head, [row])
    data = load_task("mnli", tmp_path)
    assert (data.train.labels, data.train.texts_a, data.train.texts_b) == ([2], ["A."], ["B."])
    assert {key: (dev.texts_a, dev.labels) for key, dev in data.dev.items()} == {
        "matched": (["matched"], [0]),
        "mismatched": (["mismatched"], [1]),
    }


@pytest.mark.parametrize("folder", ["SST-2", "sst-2", "SST2", "Sst_2"])
def test_the_folder_is_found_by_name_or_is_the_data_dir(folder: str, tmp_path: Path) -> None:
    write_task(tmp_path, "sst2").rename(tmp_path / folder)
    assert len(load_task("sst2", tmp_path).train) == len(load_task("SST-2", tmp_path / folder).train) == 2


def test_column_order_is_the_headers(tmp_path: Path) -> None:
    for file in ("train.tsv", "dev.tsv"):
        write(tmp_path / "RTE" / file, ["label", "sentence2", "sentence1"], [["entailment", "B.", "A."]])
    train = load_task("rte", tmp_path).train
    assert (train.texts_a, train.texts_b, train.labels) == (["A."], ["B."], [0])


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    text = "next\x85line\u2028and\x0bmore"
    for file in ("train.tsv", "dev.tsv"):
        write(tmp_path / "SST-2" / file, ["sentence", "label"], [[text, "1"]])
    assert load_task("sst2", tmp_path).train.texts_a == [text]


WRONG = {
    "too few columns": (b"sentence\tlabel\ngood\t1\nno tab here\n", "line 3: 1 columns; expected 2: sentence, label"),
    "too many columns": (b"sentence\tlabel\na\tb\t1\n", "line 2: 3 columns; expected 2"),
    "blank line inside": (b"sentence\tlabel\n\ngood\t1\n", "line 2: 1 columns"),
    "unknown label": (b"sentence\tlabel\ngood\tpositive\n", "line 2: unknown label 'positive'; expected one of 0, 1"),
    "empty sentence": (b"sentence\tlabel\n  \t1\n", "line 2: column 'sentence' is empty"),
    "no header": (b"good\t1\nbad\t0\n", "line 1: not the header of SST-2: it must name 'sentence', 'label'"),
    "not UTF-8": (b"sentence\tlabel\ngood\t1\nna\xefve\t0\n", "line 3: not UTF-8 text; found the bytes ef 76 65"),
    "UTF-16": ("sentence\tlabel\n".encode("utf-16"), "line 1: not UTF-8 text"),
    "empty file": (b"", "the file is empty"),
    "only line ends": (b"\r\n\n", "the file is empty"),
    "only a header": (b"sentence\tlabel\n", "no rows after the header"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("file", ["train.tsv", "dev.tsv"])
def test_a_wrong_file_is_an_error_that_says_where(case: str, file: str, tmp_path: Path) -> None:
    path = write_task(tmp_path, "sst2") / file
    path.write_bytes(WRONG[case][0])
    with pytest.raises(DataError) as error:
        load_task("sst2", tmp_path)
    assert str(path) in str(error.value)
    assert WRONG[case][1] in str(error.value)


@pytest.mark.parametrize("score", ["5.1", "-0.5", "nan", "inf", "high", ""])
def test_scores_are_numbers_from_0_to_5(score: str, tmp_path: Path) -> None:
    folder, head, rows = SMALL["stsb"]
    write_task(tmp_path, "stsb")
    write(tmp_path / folder / "train.tsv", head, [rows[0], [*rows[1][:-1], score]])
    with pytest.raises(DataError, match=r"train.tsv, line 3: column 'score' .*expected a number from 0 to 5"):
        load_task("stsb", tmp_path)


def test_few_broken_rows_of_qqp_are_skipped_and_counted(tmp_path: Path) -> None:
    folder, head, rows = SMALL["qqp"]
    write_task(tmp_path, "qqp")
    write(tmp_path / folder / "train.tsv", head, rows * 500 + [["7", "8", "9", "cut by a line break"]])
    with pytest.warns(UserWarning, match="skipped 1 broken rows, the first at line 1002: 4 columns"):
        assert len(load_task("qqp", tmp_path).train) == 1000
    write(tmp_path / folder / "train.tsv", head, rows * 500 + [["7"], ["8"]])
    with pytest.raises(DataError, match=r"line 1003: 1 columns; expected 6"):
        load_task("qqp", tmp_path)
    write(tmp_path / folder / "train.tsv", head, [*rows, ["7"]])
    with pytest.raises(DataError, match=r"line 4: 1 columns; expected 6"):
        load_task("qqp", tmp_path)


def test_missing_folders_and_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        load_task("rte", tmp_path / "nowhere")
    with pytest.raises(DataError, match="neither has a folder RTE nor a file train.tsv"):
        load_task("rte", tmp_path)
    (write_task(tmp_path, "rte") / "dev.tsv").unlink()
    with pytest.raises(DataError, match="dev.tsv: no such file"):
        load_task("rte", tmp_path)
    with pytest.raises(DataError, match="not a folder"):
        load_task("rte", tmp_path / "RTE" / "train.tsv")


def test_files_of_another_task_are_refused(tmp_path: Path) -> None:
    folder = write_task(tmp_path, "wnli")
    with pytest.raises(DataError, match="line 2: unknown label '1'; expected one of entailment, not_entailment"):
        load_task("rte", folder)


def test_limits_draw_rows_by_seed_for_train_and_always_the_same_for_dev(tmp_path: Path) -> None:
    rows = [[f"sentence {row}", str(row % 2)] for row in range(100)]
    for file in ("train.tsv", "dev.tsv"):
        write(tmp_path / "SST-2" / file, ["sentence", "label"], rows)
    first, again, other = (load_task("sst2", tmp_path, 10, 7, seed) for seed in (1, 1, 2))
    assert (len(first.train), len(first.dev["dev"])) == (10, 7)
    assert first == again
    assert first.train != other.train and first.dev == other.dev
    assert len(load_task("sst2", tmp_path, 1000).train) == 100
    with pytest.raises(DataError, match="max_train_samples must be at least 1; found 0"):
        load_task("sst2", tmp_path, 0)


def test_unknown_task_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"unknown task 'sts2'.*did you mean '(sst2|stsb)'"):
        load_task("sts2")
    assert get_task("STS-B") is get_task("stsb")


def test_without_a_network_the_hub_is_a_quick_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    before = datasets.config.HF_HUB_OFFLINE
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="task 'rte' could not be loaded from the hub .*--data_dir"):
        get_task("rte").load(DataOptions())
    assert before == datasets.config.HF_HUB_OFFLINE
