-- Small things that edges keep over restarts, by a shelf's name and a key: answers that are fetched later, links.
CREATE TABLE kept (
    shelf   TEXT NOT NULL,
    key     TEXT NOT NULL,
    owner   TEXT NOT NULL,
    text    TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER,
    PRIMARY KEY (shelf, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX kept_expires ON kept (expires) WHERE expires IS NOT NULL;
