"""Work that keeps a long-lived server small: history that is over is deleted."""
