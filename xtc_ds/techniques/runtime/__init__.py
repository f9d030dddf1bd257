"""How the model computes while training."""
