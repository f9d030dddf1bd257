"""Every value of the key ``format`` is a format that can be trained, and one from outside is known without torch."""

from __future__ import annotations

import pytest

from xtc_ds import format_choices as registry
from xtc_ds.config import check_block, schema
from xtc_ds.format_choices import FormatChoice, format_choices, register_format_choice
from xtc_ds.formats import format_for_bits


def _block(bits: float, name: str, kind: str = "symmetric") -> dict[str, object]:
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
        assert format_for_bits(bits, True, choice.name).bits <= bits + 0.01


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
