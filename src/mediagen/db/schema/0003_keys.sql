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
