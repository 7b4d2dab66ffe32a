-- Where a task's end is told. The row of a delivery is written in the transaction that ends the task.

ALTER TABLE tasks ADD COLUMN webhook TEXT CHECK (webhook IS NULL OR json_valid(webhook));

CREATE TABLE deliveries (
    id           TEXT    NOT NULL PRIMARY KEY,
    type         TEXT    NOT NULL,
    task_id      TEXT    NOT NULL,
    task_attempt INTEGER NOT NULL,
    owner        TEXT,
    url          TEXT    NOT NULL,
    target       TEXT    NOT NULL,
    status       TEXT    NOT NULL CHECK (status IN ('waiting', 'delivered', 'failed', 'disabled')),
    tries        INTEGER NOT NULL CHECK (tries >= 0),
    step         INTEGER NOT NULL CHECK (step >= 0),
    created_at   TEXT    NOT NULL,
    due_at       TEXT,
    ended_at     TEXT,
    task         TEXT    NOT NULL CHECK (json_valid(task)), -- as it was at its end: a retry may have changed its row
    omitted      TEXT    NOT NULL CHECK (json_valid(omitted)),
    CHECK ((due_at IS NOT NULL) = (status = 'waiting')),
    CHECK ((ended_at IS NULL) = (status = 'waiting')),
    UNIQUE (task_id, task_attempt)
) STRICT;

CREATE INDEX deliveries_by_time   ON deliveries (created_at, id);
CREATE INDEX deliveries_by_owner  ON deliveries (owner, created_at, id);
CREATE INDEX deliveries_by_status ON deliveries (status, created_at, id);
CREATE INDEX deliveries_due       ON deliveries (due_at, created_at) WHERE status = 'waiting';
CREATE INDEX deliveries_by_url    ON deliveries (url) WHERE status = 'waiting';

CREATE TABLE delivery_attempts (
    delivery_id  TEXT    NOT NULL REFERENCES deliveries (id) ON DELETE CASCADE,
    number       INTEGER NOT NULL CHECK (number >= 1),
    at           TEXT    NOT NULL,
    milliseconds INTEGER NOT NULL CHECK (milliseconds >= 0),
    status_code  INTEGER,
    error        TEXT,
    PRIMARY KEY (delivery_id, number)
) STRICT, WITHOUT ROWID;

-- URLs that answered 410 to an owner's event: they are told nothing more until a redelivery is taken.

CREATE TABLE disabled_urls (
    owner TEXT,
    url   TEXT NOT NULL,
    since TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX disabled_urls_once ON disabled_urls (url, coalesce(owner, ''));

-- Deliveries go with their task, however it goes; one that still waits is delivered first.

CREATE TRIGGER deliveries_go_with_their_task AFTER DELETE ON tasks
BEGIN
    DELETE FROM deliveries WHERE task_id = OLD.id AND status <> 'waiting';
END;
