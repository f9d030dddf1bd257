"""Single weights, or blocks of them, become zero."""
