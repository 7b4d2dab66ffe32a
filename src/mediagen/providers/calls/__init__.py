"""Calls to a provider: when one may be made, what is sent, how its answer is read, and what a refusal means."""
