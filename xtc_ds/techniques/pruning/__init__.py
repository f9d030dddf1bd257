"""What the prunings have in common; nothing is imported here, since their pieces of the block need no torch."""
