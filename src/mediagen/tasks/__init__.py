"""What it means to run: the verbs (service), the states (registry), the order (dispatcher), the doing (runner)."""
