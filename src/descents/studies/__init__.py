"""One function per command: from a table to a result."""
