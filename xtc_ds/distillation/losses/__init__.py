"""The built-in distillation losses, one file each; they import torch only when they compute."""
