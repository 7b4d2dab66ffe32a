-- Times are UTC, ISO 8601, always with microseconds and +00:00, so that text order is time order.

CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value ANY  NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO meta (key, value) VALUES ('boots', 0), ('instance_id', lower(hex(randomblob(16))));

CREATE TABLE tasks (
    id               TEXT    NOT NULL PRIMARY KEY,
    kind             TEXT    NOT NULL,
    lane             TEXT    NOT NULL,
    status           TEXT    NOT NULL
        CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled', 'timed_out')),
    request          TEXT    NOT NULL CHECK (json_valid(request)),
    created_at       TEXT    NOT NULL,
    updated_at       TEXT    NOT NULL,
    priority         INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 100),
    attempt          INTEGER NOT NULL CHECK (attempt >= 1),
    max_attempts     INTEGER NOT NULL CHECK (max_attempts >= 1),
    claims           INTEGER NOT NULL CHECK (claims >= 0),
    version          INTEGER NOT NULL CHECK (version >= 0),
    timeout_seconds  REAL    NOT NULL CHECK (timeout_seconds > 0),
    started_at       TEXT,
    ended_at         TEXT,
    cancel_requested INTEGER NOT NULL CHECK (cancel_requested IN (0, 1)),
    result           TEXT    CHECK (result IS NULL OR json_valid(result)),
    error            TEXT    CHECK (error IS NULL OR json_valid(error)),
    checkpoint       TEXT    NOT NULL CHECK (json_valid(checkpoint)),
    owner            TEXT,
    CHECK ((ended_at IS NOT NULL) = (status IN ('completed', 'failed', 'cancelled', 'timed_out')))
) STRICT;

CREATE INDEX tasks_by_time   ON tasks (created_at, id);
CREATE INDEX tasks_by_status ON tasks (status, created_at, id);
CREATE INDEX tasks_by_kind   ON tasks (kind, created_at, id);
CREATE INDEX tasks_by_owner  ON tasks (owner, created_at, id);
CREATE INDEX tasks_by_end    ON tasks (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE files (
    id                 TEXT    NOT NULL PRIMARY KEY,
    key                TEXT    NOT NULL UNIQUE,
    filename           TEXT    NOT NULL,
    bytes              INTEGER NOT NULL CHECK (bytes >= 0),
    media_type         TEXT    NOT NULL,
    kind               TEXT    NOT NULL CHECK (kind IN ('image', 'video', 'audio', 'subtitle', 'other')),
    checksum_algorithm TEXT    NOT NULL,
    checksum_value     TEXT    NOT NULL,
    created_at         TEXT    NOT NULL,
    etag               TEXT    NOT NULL,
    sha256             TEXT,
    width              INTEGER,
    height             INTEGER,
    duration_seconds   REAL,
    task_id            TEXT    REFERENCES tasks (id) ON DELETE SET NULL,
    owner              TEXT,
    metadata           TEXT    NOT NULL CHECK (json_valid(metadata))
) STRICT;

CREATE INDEX files_by_time  ON files (created_at, id);
CREATE INDEX files_by_kind  ON files (kind, created_at, id);
CREATE INDEX files_by_owner ON files (owner, created_at, id);
CREATE INDEX files_by_task  ON files (task_id) WHERE task_id IS NOT NULL;

CREATE TABLE upload_parts (
    task_id TEXT    NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    number  INTEGER NOT NULL CHECK (number >= 1),
    size    INTEGER NOT NULL CHECK (size >= 0),
    crc32   INTEGER NOT NULL,
    token   TEXT    NOT NULL,
    PRIMARY KEY (task_id, attempt, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE owed_aborts (
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    state TEXT    NOT NULL UNIQUE CHECK (json_valid(state))
) STRICT;
