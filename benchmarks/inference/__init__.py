"""Size and speed of packed models beside other engines."""
