"""Run folders and atomic files: the only room that writes to disk.

`folders` writes a run beside its place and renames it when it is complete.
"""
