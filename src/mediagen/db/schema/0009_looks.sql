-- How often something owed was looked for in the store after it was removed: a request may be carried out late.

ALTER TABLE owed_aborts ADD COLUMN looks INTEGER NOT NULL DEFAULT 0 CHECK (looks >= 0);
