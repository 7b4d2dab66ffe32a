"""The built-in provider: real pictures and films made of the prompt by rules: no key, no network, no learned model."""
