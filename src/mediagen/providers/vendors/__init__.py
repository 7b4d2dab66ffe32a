"""One file per vendor: its requests, its results, its status words."""
