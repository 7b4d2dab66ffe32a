"""What runs round every request: errors, origins, rate limits, counts."""
