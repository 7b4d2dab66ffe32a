"""mediagen: a self-hosted media server in one asyncio process."""

__version__ = "0.1.0"
