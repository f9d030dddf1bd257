"""Models that look ordinary and are not: each is refused, or planned right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import xtc_ds
from tests.tiny import batch, block, ds_config, tiny_model
from xtc_ds.config import load_config
from xtc_ds.errors import PlanError
from xtc_ds.plan import CompressionPlan
from xtc_ds.rewrite import make_plan


def plan(model: nn.Module, **options: Any) -> CompressionPlan:
    return make_plan(model, load_config(ds_config(block(exclude=[], **options)))[1])


def with_own_forward() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8))
    model[0].forward = model[0].forward  # type: ignore[method-assign]
    return model


def with_max_norm() -> nn.Module:
    return nn.Sequential(nn.Embedding(8, 8, max_norm=1.0))


def with_weight_norm() -> nn.Module:
    return nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(8, 8)))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (with_own_forward, "'0' has a forward of its own on the instance"),
        (with_max_norm, "'0' renormalizes its table"),
        (with_weight_norm, "'0' has a weight that a hook computes"),
        (lambda: nn.Sequential(nn.Linear(0, 4)), "'0' has an empty weight; exclude it"),
        (lambda: nn.Sequential(nn.Linear(4, 0)), "'0' has an empty weight; exclude it"),
    ],
)
def test_what_a_class_swap_would_miss_is_refused(build: Any, reason: str) -> None:
    with pytest.raises(PlanError, match=reason):
        plan(build(), activation=None)


def tiny_t5(layers: int = 2) -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes: dict[str, Any] = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": layers, "num_heads": 2}
    return T5ForConditionalGeneration(T5Config(vocab_size=100, decoder_start_token_id=0, dropout_rate=0.0, **sizes))


def test_a_weight_that_its_parent_reads_is_refused() -> None:
    with pytest.raises(PlanError, match=r"Dense.wo' .*has its weight read directly by T5DenseActDense.forward"):
        plan(tiny_t5(), activation=None, modules=[r"DenseReluDense"])


def test_a_table_that_is_never_called_is_refused() -> None:
    from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 100}
    model = DebertaV2ForSequenceClassification(
        DebertaV2Config(**sizes, intermediate_size=64, max_position_embeddings=64, relative_attention=True)
    )
    with pytest.raises(PlanError, match=r"rel_embeddings' has its weight read directly by .*get_rel_embedding"):
        plan(model, activation=None)


def reduce(model: nn.Module, teacher: nn.Module | None = None, **options: Any) -> None:
    xtc_ds.compress(model, ds_config({"layer_reduction": {"enabled": True, **options}}), teacher)


def test_a_dropped_decoder_layer_is_counted_as_one_of_the_decoder() -> None:
    from transformers import BartConfig, BartForSequenceClassification

    sizes: dict[str, Any] = {f"{side}_layers": 4 for side in ("encoder", "decoder")}
    sizes |= {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
    model = BartForSequenceClassification(BartConfig(vocab_size=100, d_model=32, max_position_embeddings=64, **sizes))
    reduce(model, keep_number_layer=2, module_name_prefix="model.decoder.layers")
    assert (model.config.encoder_layers, model.config.decoder_layers) == (4, 2)
    reduce(model, keep_number_layer=1, module_name_prefix="model.encoder.layers")
    assert (model.config.encoder_layers, model.config.decoder_layers) == (1, 2)


def test_the_config_inside_a_wrapper_follows_the_layers() -> None:
    wrapper = nn.Module()
    wrapper.model = tiny_model()
    reduce(wrapper, keep_number_layer=2)
    assert wrapper.model.config.num_hidden_layers == 2


def test_a_layer_that_holds_more_than_the_others_is_not_dropped_silently() -> None:
    stack = "encoder.block"
    with pytest.raises(PlanError, match=r"layer 1 cannot take the place of layer 0 of encoder.block: only one .*bias"):
        reduce(tiny_t5(4), keep_number_layer=2, module_name_prefix=stack)
    model = tiny_t5(4)
    reduce(model, teacher_layer=[0, 3], module_name_prefix=stack)
    assert model.config.num_layers == 2


def test_a_teacher_of_other_sizes_is_refused_before_anything_is_changed() -> None:
    model, teacher = tiny_model(layers=2, intermediate_size=48), tiny_model(layers=4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(PlanError, match=r"'bert.encoder.layer.0.intermediate.dense.weight' .*\(48, 32\).*\(64, 32\)"):
        reduce(model, teacher, keep_number_layer=2)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_cut_model_takes_the_teachers_layers() -> None:
    model, teacher = tiny_model(layers=4), tiny_model(layers=4)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.01)
    reduce(model, teacher, keep_number_layer=2)
    theirs = teacher.state_dict()
    assert torch.equal(
        model.bert.encoder.layer[1].output.dense.weight, theirs["bert.encoder.layer.3.output.dense.weight"]
    )
    assert torch.equal(model.classifier.weight, theirs["classifier.weight"])
    assert model(**batch()).loss.isfinite()


def test_the_plan_counts_static_ranges() -> None:
    model = tiny_model()
    static = {"range_calibration": "static"}
    with_ranges, without = plan(model, activation_shared=static), plan(model)
    assert with_ranges.sizes.packed - without.sizes.packed == 2 * 2 * len(with_ranges.activations)


def test_a_teacher_that_lacks_layers_of_the_model_is_refused() -> None:
    with pytest.raises(PlanError, match="the model has 4 layers, the teacher 2"):
        reduce(tiny_model(layers=4), tiny_model(layers=2), keep_number_layer=2)
