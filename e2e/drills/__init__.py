"""One drill for each promise that needs a cluster."""
