"""Files: upload, metadata, bytes, signed links."""
