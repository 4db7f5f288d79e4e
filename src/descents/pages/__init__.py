"""A stored run as one HTML file and its figures.

`page` fills the template of a command, `figures` draws on axes, and each command has a
module that chooses the pictures. Nothing here computes a result: it is read from the
run folder, or passed by the command that has just stored it.
"""
