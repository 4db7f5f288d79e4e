"""The best known answer, how far results are from it, and why."""
