"""Content that wants to become instructions, and clients that want what is not theirs."""
