"""Layer inputs as 8- or 4-bit codes."""
