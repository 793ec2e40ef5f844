"""Random histories of several users in several regions: the real turn code on an in-process model of its stores.

- ``loop``: virtual time; nothing here ever waits for a clock.
- ``table``, ``state``, ``hot``, ``objects``: the model of an eventual global table, of Redis and of S3. They pass the
  conformance suites of the real ones (``test_models``).
- ``links``: what may go wrong between one sidecar and its stores.
- ``ground``: all of that together, and what may happen to it. ``real`` is the same on servers: ``standins`` has them, and
  ``ways`` is how a sidecar reaches them.
- ``claude``, ``client``: a small strict Claude, and clients that keep a history and try again.
- ``world``: regions with their stores and sidecars.
- ``plan``: what happens, from a seed; ``history`` runs it; ``watch`` and ``checks`` say what must hold.
- ``bugs``: mistakes put into the product on purpose, each of which must be caught.

``python -m tests.histories`` (``make histories``) runs them.
"""
