"""Linear algebra: singular values and vectors, with fixed signs.

`spectra` has decompositions of tables and of products of factors.
"""
