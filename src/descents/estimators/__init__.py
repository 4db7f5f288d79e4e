"""The estimators, and how they read tables."""
