-- Which task a creating call made, so that a client that lost the answer can ask again (Idempotency-Key).
-- The key carries its owner and the kind of the task; the fingerprint is a digest of what was asked for.

CREATE TABLE idempotency (
    key         TEXT NOT NULL PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    task_id     TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_by_task ON idempotency (task_id);
