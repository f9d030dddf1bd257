"""A format brings a value of ``format``, and keys of its own; every format that can be asked for can be trained."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import pytest

from xtc_ds import format_choices as registry
from xtc_ds.config import check_block, parse_block, schema
from xtc_ds.config.keys import key
from xtc_ds.errors import ConfigError
from xtc_ds.format_choices import FormatChoice, format_choices, register_format_choice
from xtc_ds.formats import format_for_bits
from xtc_ds.techniques.weight_quantization.config import WeightGroup


def _block(bits: float, name: str, kind: str = "symmetric") -> dict[str, Any]:
    params = {"start_bits": bits, "target_bits": bits, "format": name, "quantization_type": kind}
    return {
        "weight_quantization": {
            "shared_parameters": {"enabled": True},
            "different_groups": {"g": {"params": params, "modules": ["dense"]}},
        }
    }


@pytest.mark.parametrize("choice", format_choices(), ids=lambda choice: choice.name)
def test_a_choice_is_a_format_at_each_of_its_bits(choice: FormatChoice) -> None:
    for bits in choice.target_bits:
        assert check_block(_block(bits, choice.name))[0] == []
        weight_format = format_for_bits(bits, True, choice.name)
        assert weight_format.bits <= bits + 0.01
        assert weight_format.learned == choice.learned


def test_a_choice_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    before = schema()["$defs"]["weight_group"]["properties"]["params"]["properties"]["format"]
    monkeypatch.setattr(registry, "_CHOICES", dict(registry._CHOICES))
    register_format_choice(FormatChoice("zigzag", (3, 4), "nowhere", symmetric_only=True, text="zigzag: by turns."))
    node = schema()["$defs"]["weight_group"]["properties"]["params"]["properties"]["format"]
    assert node["enum"] == [*before["enum"], "zigzag"]
    assert node["description"] == before["description"] + " zigzag: by turns."
    assert check_block(_block(3, "zigzag")) == ([], [])
    (error,) = check_block(_block(5, "zigzag"))[0]
    assert error.message == 'does not fit target_bits 5; found "zigzag"; allowed: "auto", "integer", "kmeans"'
    (error,) = check_block(_block(4, "zigzag", "asymmetric"))[0]
    assert error.message == 'does not fit quantization_type "asymmetric"; found "zigzag"; allowed: "auto", "integer"'
    (error,) = check_block(_block(4, "zigzga"))[0]
    assert error.message.endswith('did you mean "zigzag"?')


@dataclass(frozen=True, kw_only=True)
class ZigzagKeys:
    """What a format may bring to the params of its groups."""

    turns: int = key("How often it turns.", 2, scope="params", examples=(4,), minimum=1)


def test_a_format_brings_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_CHOICES", dict(registry._CHOICES))
    register_format_choice(FormatChoice("zigzag", (3, 4), "nowhere", keys=ZigzagKeys))
    block = _block(3, "zigzag")
    (group,) = parse_block(block).weight_quantization
    assert group.turns == 2
    assert isinstance(group, WeightGroup)
    params = block["weight_quantization"]["different_groups"]["g"]["params"]
    params["turns"] = 5.0
    config = parse_block(block)
    assert config.weight_quantization[0].turns == 5
    assert pickle.loads(pickle.dumps(config)) == config
    params["turns"] = 0
    (error,) = check_block(block)[0]
    assert error.message == "out of range; found 0; allowed: an integer >= 1"
    params |= {"turns": 1, "format": "integer"}
    errors, (warning,) = check_block(block)
    assert (errors, warning.path.rpartition(".")[2]) == ([], "turns")
    assert warning.message == 'has no effect with format "integer"; found 1; leave it out, or use "zigzag"'


def test_two_cannot_bring_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_CHOICES", dict(registry._CHOICES))
    register_format_choice(FormatChoice("zigzag", (3,), "nowhere", keys=ZigzagKeys))
    register_format_choice(FormatChoice("zagzig", (3,), "nowhere", keys=ZigzagKeys))
    with pytest.raises(ConfigError, match="bring the key turns"):
        schema()
