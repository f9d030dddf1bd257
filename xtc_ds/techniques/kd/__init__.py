"""Knowledge distillation from a teacher while training."""
