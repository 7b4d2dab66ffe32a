"""The nouns of mediagen: tasks, files, progress, events, errors. Standard library only."""
