"""What the stores must look like before a sidecar can use them: tables, keys, indexes, versions.

Imports no client of any store. The sidecar's adapters and the operator both make stores from what is here.
"""
