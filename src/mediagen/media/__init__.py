"""How bytes are encoded: FFmpeg as a child process, pictures by libvips."""
