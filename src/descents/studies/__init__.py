"""One function per command, from table to result."""
