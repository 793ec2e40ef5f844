"""``python -m agentmemory_sidecar.cli``: the same as the ``agentmemory`` script, for a process that starts itself."""

from agentmemory_sidecar.cli.main import main

main()
