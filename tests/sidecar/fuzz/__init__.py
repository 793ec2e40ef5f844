"""Random conversations, held twice: with Claude directly and through a sidecar. See :mod:`.conversation`."""
