"""Drills: a constant writer with numbered turns, a fault, and a report of what it cost. See docs/drills.md.

``conversation``, ``ledger``, ``view``, ``budgets``, ``evaluate`` and ``render`` are pure; ``line``, ``writer`` and
``course`` act; ``cluster``, ``faults`` and ``conduct`` are what ``agentmemory drill`` does on a user's cluster.
"""
