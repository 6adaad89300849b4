-- Format 1. One row per write; the newest row of a key is what it holds, a row
-- without a value says that the key is empty.
CREATE TABLE log (
    revision INTEGER PRIMARY KEY,
    key      TEXT    NOT NULL,
    value    BLOB,
    created  INTEGER NOT NULL,
    at       INTEGER NOT NULL, -- milliseconds since 1970
    expires  INTEGER           -- milliseconds since 1970
) STRICT;

CREATE INDEX log_by_key ON log (key, revision);

-- 'floor': the history up to this revision may be incomplete.
-- 'revision': no revision up to this one is ever given out again.
CREATE TABLE counter (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO counter (name, value) VALUES ('floor', 0), ('revision', 0);
