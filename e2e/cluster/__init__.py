"""What the drills do to a cluster and ask of it."""
