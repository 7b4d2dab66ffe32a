"""The only HTTP edge: routes, schemas, errors, the live feed, files."""
