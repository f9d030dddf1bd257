"""What the taps see is what the models compute."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import weakref
from pathlib import Path

import pytest
import torch
from distillation_models import ARCHITECTURES, ENCODERS, batch, close, tiny_model
from torch import nn

from xtc_ds.distillation.attention_tap import disable_attention_tap, enable_attention_tap
from xtc_ds.distillation.taps import Tap
from xtc_ds.errors import DistillationError
from xtc_ds.plan import find_layer_stack


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_scores_are_those_of_eager_attention(kind: str, left: bool) -> None:
    model = tiny_model(kind, implementation="eager").eval()
    inputs = batch(left=left)
    with torch.no_grad():
        probabilities = model(**inputs, output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    enable_attention_tap(model)
    stack = find_layer_stack(model).layers
    tap = Tap(stack, attention=range(len(stack)))
    with torch.no_grad(), tap:
        model(**inputs)
    records = tap.take().attention
    real = inputs["attention_mask"].bool()
    for index, expected in enumerate(probabilities):
        rows = records[index].scores().softmax(-1).transpose(1, 2)[real]
        close(rows, expected.transpose(1, 2)[real])
        forbidden = ~records[index].allowed().expand_as(expected)
        assert not bool((expected != 0)[forbidden & real[:, None, :, None]].any())


@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_outputs_are_the_same_with_the_tap(kind: str, implementation: str, padded: bool) -> None:
    model = tiny_model(kind, implementation=implementation).eval()
    inputs = batch() if padded else batch((7, 7, 7))
    before = model(**inputs)
    enable_attention_tap(model)
    idle = model(**inputs)
    stack = find_layer_stack(model).layers
    with Tap(stack, range(len(stack) + 1), range(len(stack))):
        active = model(**inputs)
    disable_attention_tap(model)
    assert model.config._attn_implementation == implementation
    for after in (idle, active):
        close(after.logits, before.logits, 1e-4)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_hidden_states_are_those_of_the_model(kind: str) -> None:
    model = tiny_model(kind).eval()
    inputs = batch()
    stack = find_layer_stack(model).layers
    tap = Tap(stack, hidden=range(len(stack) + 1))
    with tap:
        expected = model(**inputs, output_hidden_states=True).hidden_states
    states = tap.take().hidden
    # Decoders add their final norm to the last of their hidden states; layers do not.
    for index in range(len(stack) + (kind in ENCODERS)):
        close(states[index], expected[index])


def test_eager_models_still_give_their_attentions() -> None:
    model = tiny_model("bert", implementation="eager").eval()
    expected = model(**batch(), output_attentions=True).attentions
    enable_attention_tap(model)
    found = model(**batch(), output_attentions=True).attentions
    close(torch.stack(found), torch.stack(expected))


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_dropout_is_applied_to_attention_in_training(kind: str) -> None:
    name = "attention_dropout" if kind == "llama" else "attention_probs_dropout_prob"
    model = tiny_model(kind, **{name: 0.9})
    enable_attention_tap(model)
    torch.manual_seed(1)
    one = model(**batch()).logits
    assert not torch.allclose(one, model(**batch()).logits)


def test_nothing_of_the_tap_is_saved_copied_or_pickled(tmp_path: Path) -> None:
    model = tiny_model("bert")
    enable_attention_tap(model)
    model.save_pretrained(tmp_path)
    assert "xtc_tap" not in (tmp_path / "config.json").read_text()
    assert "xtc_tap" not in json.dumps(model.config.to_dict())
    assert copy.deepcopy(model).config._attn_implementation == "sdpa"
    assert pickle.loads(pickle.dumps(model.config))._attn_implementation == "sdpa"


def test_enabling_twice_is_undone_by_disabling_once() -> None:
    model = tiny_model("bert", implementation="eager")
    enable_attention_tap(model)
    enable_attention_tap(model)
    disable_attention_tap(model)
    assert model.config._attn_implementation == "eager"
    assert type(model.config._attn_implementation) is str


def test_a_model_outside_transformers_is_refused_with_the_remedy() -> None:
    with pytest.raises(DistillationError, match='"attention_weight": 0'):
        enable_attention_tap(nn.Linear(2, 2), ("attention_weight",))


def test_nothing_is_kept_after_take_and_no_hooks_remain() -> None:
    model = tiny_model("bert")
    enable_attention_tap(model)
    stack = find_layer_stack(model).layers
    tap = Tap(stack, range(3), range(2))
    with tap:
        model(**batch())
    capture = tap.take()
    states = [weakref.ref(capture.hidden[1]), weakref.ref(capture.attention[0].query)]
    del capture
    gc.collect()
    assert [state() for state in states] == [None, None]
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in stack)
    model(**batch())  # outside: nothing is captured
    with pytest.raises(DistillationError, match="did not"):
        tap.take()


def test_a_forward_that_fails_leaves_nothing() -> None:
    model = tiny_model("bert")
    stack = find_layer_stack(model).layers
    tap = Tap(stack, range(3))
    with pytest.raises(IndexError), tap:
        model(input_ids=torch.full((1, 3), 10_000))
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in stack)


class Plain(nn.Module):
    """Layers called by keyword that return tuples."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(mask=None, hidden_states=x)[0]
        return x


class Layer(nn.Module):
    def forward(self, hidden_states: torch.Tensor, mask: None) -> tuple[torch.Tensor, str]:
        return hidden_states + 1, "more"


def test_keyword_inputs_and_tuple_outputs() -> None:
    model, x = Plain(), torch.zeros(1, 2, 3)
    tap = Tap(model.layers, range(3))
    with tap:
        model(x)
    assert [float(tap_state.mean()) for _, tap_state in sorted(tap.take().hidden.items())] == [0.0, 1.0, 2.0]


def test_a_layer_that_runs_twice_is_refused() -> None:
    model = Plain()
    with pytest.raises(DistillationError, match="twice"), Tap(model.layers, range(3)):
        model(model(torch.zeros(1, 2, 3)))


def test_values_are_kept_only_where_they_are_asked_for() -> None:
    model = tiny_model("bert")
    stack = find_layer_stack(model).layers
    enable_attention_tap(model)
    for values in (True, False):
        with Tap(stack, attention=[0], values=values) as tap:
            model(**batch())
        record = tap.take().attention[0]
        assert (record.value is not None) == values
        assert record.query.shape[-2] == batch()["input_ids"].shape[1]
