"""The verbs of the product for a shell."""
