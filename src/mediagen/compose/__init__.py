"""Films from a script: a request becomes a timeline of frames, the timeline windows, and the windows a film."""
