"""The archive's buckets: what is wanted and seen, and what leads from one to the other. Pure."""
