"""Webhook deliveries and the payloads that webhooks receive."""
