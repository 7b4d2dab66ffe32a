"""One suite for each protocol; every implementation inherits it and passes it."""
