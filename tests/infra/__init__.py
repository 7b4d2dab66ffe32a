"""Real servers on loopback for the tests: a scripted source, an S3 store, a fault proxy, mediagen itself."""
