"""References, comparisons, diagnoses, and model selection."""
