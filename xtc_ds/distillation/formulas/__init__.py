"""The formulas of the built-in losses: pure functions of tensors."""
