"""Webhooks: what is signed, sent, retried and recorded."""
