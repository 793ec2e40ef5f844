"""The sidecar: a proxy between an agent and Claude that keeps the agent's memory outside it."""
