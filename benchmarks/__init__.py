"""Benchmarks of mediagen: figures that its promises rest on, taken from a real server process through its public API.

``make bench`` runs all, ``python -m benchmarks s3 many --quick`` some of them. Everything stays on the loopback
interface: nginx is the source, a discarding S3 endpoint of our own the store, curl and other libraries the peers.
How it is measured and what came out: ``docs/benchmarks.md``.
"""
