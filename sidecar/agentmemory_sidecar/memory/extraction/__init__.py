"""Extraction by a model, as far as it is decided without asking one: which turns are due, what the model is told of
them, which of the changes that it wants are made, and what is noted of where a fact came from."""
