"""A stored run as figures and a page."""
