"""Quantized weights in the forward, float latent weights in the optimizer."""
