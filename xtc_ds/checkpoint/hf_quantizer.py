"""The Hugging Face quantizer that loads packed checkpoints; registered when ``xtc_ds`` is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.quantizers.auto import (
    AUTO_QUANTIZATION_CONFIG_MAPPING,
    AUTO_QUANTIZER_MAPPING,
)
from transformers.quantizers.base import HfQuantizer

from xtc_ds.checkpoint.quantization_config import QUANT_METHOD, XtcQuantizationConfig, describe_packed
from xtc_ds.checkpoint.shards import check_index
from xtc_ds.checkpoint.shell import build_frozen, mark_frozen, tie_packed_layers
from xtc_ds.checkpoint.structure import check_tensors
from xtc_ds.checkpoint.tensors import stored_tensors
from xtc_ds.checkpoint.verify import VERSION, read_headers, verify_files

__all__ = ["XtcHfQuantizer", "register"]


class XtcHfQuantizer(HfQuantizer):  # type: ignore[misc]
    """Replaces the modules of the packed config by empty packed layers before the weights are read."""

    requires_calibration = True
    quantization_config: XtcQuantizationConfig

    def _process_model_before_weight_loading(self, model: nn.Module, **kwargs: Any) -> None:
        config = self.quantization_config
        files = [Path(file) for file in kwargs.get("checkpoint_files") or []]
        headers = read_headers(files, config)
        build_frozen(model, config)
        if headers:
            check_tensors(model, headers, config)
            check_index(headers)
            # transformers builds models inside a meta device context; checking the files needs real memory.
            with torch.device("cpu"):
                verify_files(headers, config)

    def _process_model_after_weight_loading(self, model: nn.Module, **kwargs: Any) -> nn.Module:
        tie_packed_layers(model, self.quantization_config)
        mark_frozen(model, self.quantization_config)
        return model

    def get_state_dict_and_metadata(self, model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
        """State dict and metadata for transformers' own ``save_pretrained``, which loaded models override."""
        described = describe_packed(model, self.quantization_config.float_dtype)
        return stored_tensors(model, described), {"format": "pt", VERSION: str(described.format_version)}

    def is_serializable(self, **kwargs: Any) -> bool:
        """Packed models can be saved again."""
        return True

    @property
    def is_trainable(self) -> bool:
        """True, because transformers' Trainer would otherwise refuse to predict, too; packed layers refuse training."""
        return True

    @property
    def is_qat_trainable(self) -> bool:
        """See ``is_trainable``."""
        return True


def register() -> None:
    """Register the quantization method with transformers; repeated calls are harmless."""
    AUTO_QUANTIZATION_CONFIG_MAPPING.setdefault(QUANT_METHOD, XtcQuantizationConfig)
    AUTO_QUANTIZER_MAPPING.setdefault(QUANT_METHOD, XtcHfQuantizer)


# At module level, because importing this module may itself be what creates transformers' table.
register()
