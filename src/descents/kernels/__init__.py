"""C code for the inner loops.

`compiled` builds a source file with the compiler of the machine at first use and caches
the result. `entries` wraps sums over the stored entries of a sparse table.
"""
