"""Bytes into the store: where they go, whether there is room, the row that says where they went."""
