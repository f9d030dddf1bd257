"""Quantize layer inputs to 8 or 4 bits."""
