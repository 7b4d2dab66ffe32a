-- What signs links to files. Empty until the first start fills it with random bytes.

INSERT INTO meta (key, value) VALUES ('link_secret', x'');
