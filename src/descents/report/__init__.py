"""Figures and HTML pages of stored runs."""
