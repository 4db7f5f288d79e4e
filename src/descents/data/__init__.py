"""Tables, the files that they are read from, run folders, and data sets."""
