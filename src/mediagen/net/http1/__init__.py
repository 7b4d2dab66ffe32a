"""HTTP/1.1 connections of our own, each owned by one reader: dialing, heads, framing, bodies (RFC 9112)."""
