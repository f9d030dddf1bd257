"""Settings for how the model computes during training."""
