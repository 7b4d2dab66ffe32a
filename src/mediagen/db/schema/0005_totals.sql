-- The sum of files.bytes, for limits.store_bytes. Triggers keep it, so that it is right whatever transaction a row comes
-- or goes in, and reading it costs the same for one file as for a million.

CREATE TABLE totals (
    name  TEXT    NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO totals (name, value) SELECT 'file_bytes', coalesce(sum(bytes), 0) FROM files;

CREATE TRIGGER files_total_insert AFTER INSERT ON files BEGIN
    UPDATE totals SET value = value + NEW.bytes WHERE name = 'file_bytes';
END;

CREATE TRIGGER files_total_delete AFTER DELETE ON files BEGIN
    UPDATE totals SET value = value - OLD.bytes WHERE name = 'file_bytes';
END;

CREATE TRIGGER files_total_update AFTER UPDATE OF bytes ON files BEGIN
    UPDATE totals SET value = value - OLD.bytes + NEW.bytes WHERE name = 'file_bytes';
END;
