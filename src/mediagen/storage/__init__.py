"""Bytes at rest: one protocol, local disk and S3 behind it."""
