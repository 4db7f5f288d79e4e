"""Run folders and files: the only room that writes to disk.

`run_folders` writes a run beside its place and renames it when it is complete. `files` reads
and writes single files, `values` converts values for JSON, and `results` describes results
as dataclasses, with their JSON Schema. `damage` reports what is wrong with a stored file.
"""
