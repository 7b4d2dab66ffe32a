"""File formats told by their bytes: media type, completeness, width, height and duration."""
