"""Claude's memory tool (``memory_20250818``), served from the state object. Pure: commands in, results and changes out."""

NAME = "memory"
"""How Claude calls it; the API fixes it."""
MEMBER = "memories"
"""The state's member that holds the files: an object, from a path below ``/memories`` to the file's text."""
POINTER = f"/{MEMBER}"
