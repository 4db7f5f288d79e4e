"""Damaged inputs: made from whole ones by mutations, read in processes with limits."""
