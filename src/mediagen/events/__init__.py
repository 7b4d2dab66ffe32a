"""Who is told, and how: the bus with its sequence numbers and its memory, the throttle at the source."""
