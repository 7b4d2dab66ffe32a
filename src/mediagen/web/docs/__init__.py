"""The API described by the server itself."""
