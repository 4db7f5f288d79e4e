"""Singular values and vectors of tables and of products of factors, with fixed signs."""
