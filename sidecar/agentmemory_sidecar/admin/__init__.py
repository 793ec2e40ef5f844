"""What an operator of the sidecar may ask and change: on a port of its own, with a token."""
