"""Simulated systems that the product is shown and tested against; they import nothing of ours."""
