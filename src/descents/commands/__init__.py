"""The commands of the command line, one module each, and shared options."""
