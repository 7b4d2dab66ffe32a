"""Objects on local disk."""
