"""Cases about bytes on their way into a store."""
