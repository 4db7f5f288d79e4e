"""Code in C for the inner loops.

`compiled` builds a source file with the machine's own compiler at first use and caches
it. `entries` wraps sums over the stored entries of a sparse table.
"""
