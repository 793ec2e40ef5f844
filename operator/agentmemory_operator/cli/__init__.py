"""Commands that need the operator's extra."""
