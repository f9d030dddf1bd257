"""Code shared by the pruning techniques. Imports nothing, because their config sections must not need torch."""
