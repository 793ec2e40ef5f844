"""A managed Redis Cluster: what its objects look like, and which step its topology needs next."""
