"""scikit-learn classes, and how they take tables in."""
