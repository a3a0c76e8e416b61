"""The daemon: one owner of all supervision state, and what acts for it.

It never parses YAML, never imports user code, never carries data or log bytes.
"""
