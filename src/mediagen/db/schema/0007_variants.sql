-- Pictures of a film are files that belong to it. The film's row cannot go while one of theirs is there: whoever deletes
-- a film removes their bytes first, and learns of one that was made meanwhile.

ALTER TABLE files ADD COLUMN variant_of TEXT REFERENCES files (id) ON DELETE RESTRICT;
ALTER TABLE files ADD COLUMN variant TEXT CHECK ((variant IS NULL) = (variant_of IS NULL));

CREATE UNIQUE INDEX files_variants ON files (variant_of, variant) WHERE variant_of IS NOT NULL;
