"""The domain as values: units, names, topology, graph, phases.

Nothing here performs input or output, reads a clock or starts anything.
"""
