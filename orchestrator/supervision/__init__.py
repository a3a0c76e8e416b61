"""Decisions of the supervisor, pure: life cycle, restart policy, reconciliation, changes.

No clock, no randomness, no input or output: time and chance are arguments, effects are
values that somebody else carries out.
"""
