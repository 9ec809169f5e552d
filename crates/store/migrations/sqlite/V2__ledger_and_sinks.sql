-- The chain of `docs/wire/ledger.md`. What was written before it is chained when this release opens the file first.
ALTER TABLE events ADD COLUMN hash BLOB;

-- One row: what the chain stands on.
CREATE TABLE ledger (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    -- Drawn once; every chain begins with it.
    deployment    TEXT NOT NULL,
    -- Retention removed everything up to this number; its hash (NULL: the deployment's genesis), and the signature.
    cut_after     INTEGER NOT NULL,
    cut_head      BLOB,
    cut_signature BLOB,
    -- Number of the newest checkpoint's own event.
    checkpointed  INTEGER NOT NULL,
    -- Whether every event has its hash.
    chained       INTEGER NOT NULL
) STRICT;

INSERT INTO ledger (one, deployment, cut_after, cut_head, cut_signature, checkpointed, chained) VALUES (
    1,
    lower(hex(randomblob(16))),
    coalesce((SELECT min(seq) - 1 FROM events), (SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0),
    NULL,
    NULL,
    0,
    0
);

-- Up to which number each sink has everything. Retention removes nothing above the lowest.
CREATE TABLE sinks (
    name     TEXT NOT NULL PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
