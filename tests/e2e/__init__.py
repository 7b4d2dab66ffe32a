"""The whole job with the real server process: what is promised, through the public API alone."""
