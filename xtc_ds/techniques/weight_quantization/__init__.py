"""Weights as few-bit codes in the forward, float latent weights in the optimizer."""

from __future__ import annotations

from xtc_ds.techniques.registry import register_technique
from xtc_ds.techniques.weight_quantization.apply import apply

__all__ = ["apply"]

register_technique("weight_quantization", apply)
