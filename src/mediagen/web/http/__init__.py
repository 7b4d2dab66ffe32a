"""HTTP itself, without our API: bodies, forms, ranges, conditions, connections, error shapes."""
