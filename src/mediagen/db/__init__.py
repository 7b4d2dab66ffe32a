"""SQLite: one writer, a few readers, migrations as numbered SQL, a repository for each noun."""
