"""A seam at the store protocols where a test can stop a step after any effect, and what is checked afterwards.

- ``stores``: the seam; everything behind it is a real store.
- ``world``: two sidecars on the same stores, with the strict Claude behind them.
- ``agent``: a client with a history of its own, as an SDK or Claude Code keeps it.
- ``checks``: what must hold when everything has settled.
- ``histories``: random ones, each from one seed.
"""
