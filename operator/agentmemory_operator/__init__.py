"""The operator: AgentMemory resources into stores in every region, and the sidecar into pods."""
