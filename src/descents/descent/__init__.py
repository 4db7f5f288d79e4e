"""The loop, its update rules, and what it leaves behind."""
