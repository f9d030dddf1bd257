"""Weights as few-bit codes in the forward, float latent weights in the optimizer."""
