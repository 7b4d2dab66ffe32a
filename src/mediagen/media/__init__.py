"""How bytes are encoded: FFmpeg as a child process, images by libvips."""
