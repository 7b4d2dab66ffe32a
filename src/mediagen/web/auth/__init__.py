"""Who calls: keys, tickets, signed URLs, the operator file."""
