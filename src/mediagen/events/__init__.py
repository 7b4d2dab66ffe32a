"""Who is told, and how: the bus with its sequence numbers, mailboxes that conflate, the throttle at the source."""
