"""Tasks and ingest."""
