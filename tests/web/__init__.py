"""The HTTP edge, on the real application over real sockets."""
