"""Weight and activation formats: encode, decode, pack and unpack. All quantization rules are defined here."""

from __future__ import annotations

from xtc_ds.formats.activation import ActivationFormat
from xtc_ds.formats.affine import AffineFormat
from xtc_ds.formats.base import Encoded, Part, WeightFormat
from xtc_ds.formats.bit_codes import BitCodes
from xtc_ds.formats.fake_quantize import fake_quantize_activation, fake_quantize_weight
from xtc_ds.formats.grouping import Grouping
from xtc_ds.formats.registry import format_for_bits, format_names, get_format, register_format
from xtc_ds.formats.stochastic import rounding_seed, uniform_noise

__all__ = [
    "ActivationFormat",
    "AffineFormat",
    "BitCodes",
    "Encoded",
    "Grouping",
    "Part",
    "WeightFormat",
    "fake_quantize_activation",
    "fake_quantize_weight",
    "format_for_bits",
    "format_names",
    "get_format",
    "register_format",
    "rounding_seed",
    "uniform_noise",
]
