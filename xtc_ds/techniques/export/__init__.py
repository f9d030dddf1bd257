"""How the packed checkpoint is written."""
