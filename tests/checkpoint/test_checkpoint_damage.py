"""Damaged checkpoints: a named error that says what is wrong, never a crash and never a wrong answer."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import xtc_ds
from tests.checkpoint import golden_models
from tests.checkpoint.pruned_models import config, pruning
from tests.tiny import batch, tiny_model
from xtc_ds.checkpoint import accept_config
from xtc_ds.checkpoint.safetensors_file import read_header, write_file
from xtc_ds.errors import ExportError
from xtc_ds.layers import set_step

INPUTS = batch(2, 5, labels=False)
SMALL: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "vocab_size": 100, "max_position_embeddings": 16}
HEAD = "model-00001-of-00002.safetensors"


def plain() -> Any:
    return tiny_model(layers=1, **SMALL).eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(**INPUTS).logits
    return result


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file, and two with an index: a sparse model of ternary codes with a float table."""
    model = plain()
    quantized = {"bits": 2, "exclude": ["embeddings|classifier|pooler"], "activation": None}
    xtc_ds.compress(model, config(pruning("sparse", 0.25, "intermediate|pooler"), quantized=quantized))
    set_step(model, 1)
    frozen = xtc_ds.freeze(model)
    folder = tmp_path_factory.mktemp("damage")
    xtc_ds.export_packed(frozen, folder / "one")
    xtc_ds.export_packed(frozen, folder / "two", max_shard_size="4KB")
    assert (folder / "two" / HEAD).is_file()
    return {"one": folder / "one", "two": folder / "two"}


@pytest.fixture
def folder(originals: dict[str, Path], tmp_path: Path) -> Path:
    shutil.copytree(originals["one"], tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def shards(originals: dict[str, Path], tmp_path: Path) -> Path:
    shutil.copytree(originals["two"], tmp_path / "out")
    return tmp_path / "out"


def load_into(folder: Path) -> Any:
    return xtc_ds.load_into(plain(), folder)


def from_pretrained(folder: Path) -> Any:
    return type(plain()).from_pretrained(folder)


READERS: list[Callable[[Path], Any]] = [xtc_ds.load, load_into, from_pretrained]


def refused(folder: Path, message: str) -> None:
    for read in READERS:
        with pytest.raises(ExportError, match=message):
            read(folder)


def rewrite(file: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], None]) -> None:
    """Change tensors or metadata and write the file with right checksums."""
    from safetensors.torch import load_file

    tensors, metadata = load_file(file), dict(read_header(file).metadata)
    change(tensors, metadata)
    write_file(file, {name: value.contiguous() for name, value in tensors.items()}, metadata)


WEIGHT = "bert.encoder.layer.0.attention.self.query.weight"
SPARSE = "bert.encoder.layer.0.intermediate.dense.weight"


class TestOneFile:
    def test_a_flipped_bit_is_found_by_its_checksum(self, folder: Path) -> None:
        file = folder / "model.safetensors"
        stored = read_header(file).tensors[WEIGHT]
        data = bytearray(file.read_bytes())
        data[stored.begin + 3] ^= 16
        file.write_bytes(data)
        refused(folder, f"{WEIGHT}: its bytes are not those that were written")

    def test_a_truncated_file_names_its_last_tensor(self, folder: Path) -> None:
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-5])
        refused(folder, r"model.safetensors: \d+ bytes, but bert\..* ends at \d+; truncated\?")
        file.write_bytes(file.read_bytes()[:100])
        refused(folder, "a header of .* bytes in a file of 100; truncated")
        file.write_bytes(b"")
        refused(folder, "truncated")

    def test_an_over_long_header_is_not_read(self, folder: Path) -> None:
        file = folder / "model.safetensors"
        file.write_bytes((2**62).to_bytes(8, "little") + file.read_bytes()[8:])
        refused(folder, "a header of 4611686018427387904 bytes")

    def test_over_long_metadata_is_refused(self, folder: Path) -> None:
        with (folder / "model.safetensors").open("wb") as stream:
            stream.write((100_000_001).to_bytes(8, "little"))
            stream.truncate(100_000_009)
        refused(folder, "a header of 100000001 bytes")

    def test_a_wrong_shape_is_named(self, folder: Path) -> None:
        rewrite(folder / "model.safetensors", lambda tensors, _: tensors.update({WEIGHT: tensors[WEIGHT][:-1]}))
        refused(folder, rf"{WEIGHT}: has shape \(51,\); the model's is \(52,\)")

    def test_a_wrong_type_is_named(self, folder: Path) -> None:
        rewrite(folder / "model.safetensors", lambda tensors, _: tensors.update({WEIGHT: tensors[WEIGHT].char()}))
        refused(folder, f"{WEIGHT}: holds torch.int8; the model takes torch.uint8")

    def test_another_float_type_than_the_config_says_is_named(self, folder: Path) -> None:
        name = "classifier.bias"
        rewrite(folder / "model.safetensors", lambda tensors, _: tensors.update({name: tensors[name].bfloat16()}))
        refused(folder, f"{name}: holds BF16; config.json says float16")

    def test_codes_out_of_range_are_named(self, folder: Path) -> None:
        rewrite(folder / "model.safetensors", lambda tensors, _: tensors[WEIGHT].fill_(243))
        refused(folder, f"{WEIGHT}: ternary: byte 243 holds no five codes")

    def test_padding_is_checked(self, folder: Path) -> None:
        rewrite(folder / "model.safetensors", lambda tensors, _: tensors[WEIGHT][-1:].fill_(242))
        refused(folder, f"{WEIGHT}: ternary: padding after 256 codes is not zero")

    def test_a_mask_that_keeps_another_number_is_named(self, folder: Path) -> None:
        rewrite(folder / "model.safetensors", lambda tensors, _: tensors[f"{SPARSE}_mask"].fill_(255))
        refused(folder, f"{SPARSE}_mask: the mask keeps 256 weights; 64 are stored")

    def test_a_scale_that_is_no_number_is_named(self, folder: Path) -> None:
        rewrite(folder / "model.safetensors", lambda tensors, _: tensors[f"{WEIGHT}_scale"].fill_(torch.nan))
        refused(folder, f"{WEIGHT}_scale: holds NaN or infinite values")

    def test_missing_and_unexpected_tensors_are_named(self, folder: Path) -> None:
        rewrite(folder / "model.safetensors", lambda tensors, _: tensors.update(more=torch.zeros(3).half()))
        refused(folder, r"holds more, which the model \(BertForSequenceClassification\) lacks")
        rewrite(folder / "model.safetensors", lambda tensors, _: (tensors.pop("more"), tensors.pop(WEIGHT))[0])  # type: ignore[arg-type, return-value]
        refused(folder, f"missing tensors: {WEIGHT}")

    def test_another_version_is_named(self, folder: Path) -> None:
        rewrite(folder / "model.safetensors", lambda _, metadata: metadata.update(xtc_format_version="1"))
        refused(folder, "format version 1; config.json says 3")

    def test_damaged_checksums_are_named(self, folder: Path) -> None:
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes().replace(b'"xtc_crc32":"', b'"xtc_crc32":"x', 1).replace(b" ", b"", 1))
        refused(folder, "its checksums are damaged|header is damaged")

    def test_a_changed_config_is_refused_until_it_is_accepted(self, folder: Path) -> None:
        expected = logits(xtc_ds.load(folder))
        text = (folder / "config.json").read_text()
        (folder / "config.json").write_text(text.replace("1e-12", "1e-2"))
        refused(folder, "is not the one that was written with model.safetensors")
        accept_config(folder)
        assert not torch.equal(logits(xtc_ds.load(folder)), expected)
        labels = json.loads((folder / "config.json").read_text())
        labels["id2label"] = {"0": "no", "1": "yes"}
        (folder / "config.json").write_text(json.dumps(labels))
        assert xtc_ds.load(folder).config.id2label == {0: "no", 1: "yes"}  # type: ignore[union-attr]

    def test_a_config_without_a_known_class_is_named(self, folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        for wrong in (None, [], "x", [7], ["AutoTokenizer7"], ["logging"]):
            (folder / "config.json").write_text(json.dumps({**content, "architectures": wrong}))
            with pytest.raises(ExportError, match="transformers has no class"):
                xtc_ds.load(folder)


class TestShards:
    def test_a_missing_shard_is_named(self, shards: Path) -> None:
        (shards / HEAD).unlink()
        refused(shards, f"{HEAD}.* is missing")

    def test_an_index_that_does_not_fit_is_named(self, shards: Path) -> None:
        index = shards / "model.safetensors.index.json"
        content = json.loads(index.read_text())
        right = content["weight_map"].pop(WEIGHT)
        index.write_text(json.dumps(content))
        refused(shards, f"places {WEIGHT} in nowhere; it is in {right}")

    def test_an_index_does_not_lead_out_of_the_folder(self, shards: Path) -> None:
        index = shards / "model.safetensors.index.json"
        index.write_text(index.read_text().replace(HEAD, "../secret.safetensors"))
        for read in (xtc_ds.load, load_into):
            with pytest.raises(ExportError, match="index.json: cannot be read: .*none of ours"):
                read(shards)

    def test_a_tensor_in_two_files_is_named(self, shards: Path) -> None:
        other = next(file for file in shards.glob("model-*") if file.name != HEAD)
        name = min(read_header(shards / HEAD).tensors)
        rewrite(other, lambda tensors, _: tensors.update({name: torch.zeros(2)}))
        refused(shards, f"{name} is in another file, too")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["one", "two"])
def test_whatever_is_damaged_is_refused_or_makes_no_difference(
    kind: str, originals: dict[str, Path], tmp_path: Path
) -> None:
    """Thousands of damaged checkpoints through ``load_into``, and some through transformers."""
    shutil.copytree(originals[kind], tmp_path / "out")
    files = [file for file in sorted((tmp_path / "out").iterdir()) if file.name != "README.md"]
    content = {file: file.read_bytes() for file in files}
    expected, generator, refusals = logits(load_into(tmp_path / "out")), random.Random(0), 0
    trials, shell = 900, plain()
    for trial in range(trials):
        file = generator.choice(files)
        file.write_bytes(damaged(content[file], generator))
        try:
            if trial % 20 == 0:
                found = xtc_ds.load(tmp_path / "out")
            else:
                found = xtc_ds.load_into(copy.deepcopy(shell), tmp_path / "out")
        except ExportError:
            refusals += 1
        else:
            assert torch.equal(logits(found), expected), trial
        file.write_bytes(content[file])
    assert refusals > trials // 2
    assert torch.equal(logits(load_into(tmp_path / "out")), expected)


def damaged(data: bytes, generator: random.Random) -> bytes:
    """A flipped bit, a few random bytes, a piece that is gone, repeated or zero, or a changed digit."""
    result, place = bytearray(data), generator.randrange(len(data))
    if generator.random() < 0.4:  # headers are short and matter most
        place = generator.randrange(min(len(data), 8 + int.from_bytes(data[:8], "little") % len(data)))
    size = generator.randint(1, 20)
    how = generator.randrange(7)
    if how == 0:
        result[place] ^= 1 << generator.randrange(8)
    elif how == 1:
        result[place : place + size] = generator.randbytes(size)
    elif how == 2:
        del result[place : place + size]
    elif how == 3:
        result[place:place] = result[place : place + size]
    elif how == 4:
        result[place : place + size] = bytes(len(result[place : place + size]))
    elif how == 5:
        del result[place:]
    else:
        digits = [at for at, byte in enumerate(data[: 8 + 6000]) if 48 <= byte <= 57]
        result[generator.choice(digits)] = 48 + generator.randrange(10)
    return bytes(result)


@pytest.mark.parametrize("version", ["v1_no_checksums", "v2_no_checksums", "v3"])
def test_damaged_golden_files_never_crash(version: str, tmp_path: Path) -> None:
    """Also without checksums: what cannot be told from the right bytes loads, all else is a named error."""
    shutil.copytree(Path(__file__).parent / "golden" / version, tmp_path / "out")
    files = sorted((tmp_path / "out").iterdir())
    content = {file: file.read_bytes() for file in files}
    generator, refusals = random.Random(1), 0
    for _ in range(300):
        file = generator.choice(files)
        file.write_bytes(damaged(content[file], generator))
        try:
            xtc_ds.load_into(golden_models.PLAIN[version[:2]](), tmp_path / "out")
        except ExportError:
            refusals += 1
        file.write_bytes(content[file])
    assert refusals > 100
