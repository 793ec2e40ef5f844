"""The effects: one function for each type of action, idempotent and safe to be cut off at any point."""
