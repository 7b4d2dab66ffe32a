-- Every list reads its page from an index, whatever it is filtered by, so that a page costs the same in a table of a
-- thousand rows and of a million. A status changes with each transition, so few indexes hold it: a list of one status and
-- every kind is merged from those of each kind.

DROP INDEX tasks_by_status;
CREATE INDEX tasks_by_status       ON tasks (status, kind, created_at, id);
CREATE INDEX tasks_of_owner_status ON tasks (owner, status, kind, created_at, id);
CREATE INDEX tasks_of_owner_kind   ON tasks (owner, kind, created_at, id);

-- Variants are in no list.

DROP INDEX files_by_time;
DROP INDEX files_by_kind;
DROP INDEX files_by_owner;
CREATE INDEX files_by_time       ON files (created_at, id)              WHERE variant_of IS NULL;
CREATE INDEX files_by_kind       ON files (kind, created_at, id)        WHERE variant_of IS NULL;
CREATE INDEX files_by_owner      ON files (owner, created_at, id)       WHERE variant_of IS NULL;
CREATE INDEX files_of_owner_kind ON files (owner, kind, created_at, id) WHERE variant_of IS NULL;

CREATE INDEX deliveries_of_owner_status ON deliveries (owner, status, created_at, id);
CREATE INDEX deliveries_due_to          ON deliveries (target, due_at, created_at) WHERE status = 'waiting';

-- How many deliveries wait, which is asked for after each attempt.

INSERT INTO totals (name, value) SELECT 'deliveries_waiting', count(*) FROM deliveries WHERE status = 'waiting';

CREATE TRIGGER deliveries_waiting_insert AFTER INSERT ON deliveries WHEN NEW.status = 'waiting' BEGIN
    UPDATE totals SET value = value + 1 WHERE name = 'deliveries_waiting';
END;

CREATE TRIGGER deliveries_waiting_delete AFTER DELETE ON deliveries WHEN OLD.status = 'waiting' BEGIN
    UPDATE totals SET value = value - 1 WHERE name = 'deliveries_waiting';
END;

CREATE TRIGGER deliveries_waiting_update AFTER UPDATE OF status ON deliveries
WHEN (OLD.status = 'waiting') <> (NEW.status = 'waiting') BEGIN
    UPDATE totals SET value = value + (NEW.status = 'waiting') - (OLD.status = 'waiting') WHERE name = 'deliveries_waiting';
END;
