"""What mediagen is measured against."""
