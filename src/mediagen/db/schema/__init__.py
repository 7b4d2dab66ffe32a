"""The schema as numbered SQL files; ``mediagen.db.migrations`` applies those that a database has not seen."""
