"""A sidecar in a pod: its configuration comes from a mounted Secret, changes while it runs, and may be missing."""
