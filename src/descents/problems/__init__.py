"""What is minimized: kinds of problem and their losses."""
