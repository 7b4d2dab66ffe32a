-- API keys. The secret is never here, only its SHA-256. One name stands for one key that is neither revoked nor replaced.

CREATE TABLE keys (
    id           TEXT NOT NULL PRIMARY KEY,
    name         TEXT NOT NULL,
    owner        TEXT NOT NULL,
    scopes       TEXT NOT NULL CHECK (json_valid(scopes)),
    digest       TEXT NOT NULL,
    created_at   TEXT NOT NULL,
    expires_at   TEXT,
    revoked_at   TEXT,
    replaced_by  TEXT REFERENCES keys (id) DEFERRABLE INITIALLY DEFERRED,
    last_used_at TEXT
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX keys_by_name ON keys (name) WHERE revoked_at IS NULL AND replaced_by IS NULL;

-- Which file an upload made, so that a client that lost the answer can send it again (Idempotency-Key).

CREATE TABLE upload_idempotency (
    key         TEXT NOT NULL PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    file_id     TEXT NOT NULL REFERENCES files (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX upload_idempotency_by_file ON upload_idempotency (file_id);
