"""``make run``: a short conversation whose memory outlives the agent, the sidecar and the hot tier."""
