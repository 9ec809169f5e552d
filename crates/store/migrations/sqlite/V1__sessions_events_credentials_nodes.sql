-- Times are microseconds since the Unix epoch. Words are those of the model (`State::word` and its like).
-- Lists and maps are JSON. No column holds a secret: a credential leaves the SHA-256 of it, or nothing.

-- The store's clock gives each creation a time of its own, so `created` is the key, the order of every list, and the
-- last part of every index below without being named there.
CREATE TABLE sessions (
    created         INTEGER PRIMARY KEY,
    id              TEXT NOT NULL,
    hex             TEXT NOT NULL GENERATED ALWAYS AS (substr(id, -17)) VIRTUAL,
    principal       TEXT NOT NULL,
    groups          TEXT NOT NULL,
    auth            TEXT NOT NULL,
    client_address  TEXT NOT NULL,
    client_ip       TEXT NOT NULL,
    client_software TEXT NOT NULL,
    target_id       TEXT NOT NULL,
    target_name     TEXT NOT NULL,
    target_address  TEXT NOT NULL,
    target_port     INTEGER NOT NULL,
    target_labels   TEXT NOT NULL,
    target_aliases  TEXT NOT NULL,
    login           TEXT,
    protocol        TEXT NOT NULL,
    kind            TEXT NOT NULL,
    document        TEXT,
    reason          TEXT,
    node            TEXT NOT NULL,
    epoch           INTEGER NOT NULL,
    tags            TEXT NOT NULL,
    state           TEXT NOT NULL,
    connected       INTEGER,
    since           INTEGER,
    ended           INTEGER,
    end_reason      TEXT,
    end_actor       TEXT,
    end_detail      TEXT,
    last_activity   INTEGER NOT NULL,
    bytes_in        INTEGER NOT NULL,
    bytes_out       INTEGER NOT NULL,
    recording       TEXT NOT NULL,
    -- Class of its length, once it has ended: n for less than 4^n seconds. See `select.rs`.
    span            INTEGER
) STRICT;

CREATE UNIQUE INDEX sessions_id ON sessions (id);
CREATE INDEX sessions_hex ON sessions (hex);
CREATE INDEX sessions_principal ON sessions (principal);
CREATE INDEX sessions_target ON sessions (target_id);
CREATE INDEX sessions_client ON sessions (client_ip);
CREATE INDEX sessions_login ON sessions (login) WHERE login IS NOT NULL;
CREATE INDEX sessions_protocol ON sessions (protocol);
CREATE INDEX sessions_kind ON sessions (kind);
CREATE INDEX sessions_node ON sessions (node);
CREATE INDEX sessions_state ON sessions (state);
CREATE INDEX sessions_end_reason ON sessions (end_reason) WHERE end_reason IS NOT NULL;
CREATE INDEX sessions_end_actor ON sessions (end_actor) WHERE end_actor IS NOT NULL;
CREATE INDEX sessions_span ON sessions (span, created, ended) WHERE span IS NOT NULL;
-- Retention walks this one.
CREATE INDEX sessions_ended ON sessions (ended) WHERE ended IS NOT NULL;
-- A starting node looks for what its earlier lives left behind: a handful among millions.
CREATE INDEX sessions_live ON sessions (node) WHERE ended IS NULL;

CREATE TABLE session_labels (
    key     TEXT NOT NULL,
    value   TEXT NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (key, value, created)
) STRICT, WITHOUT ROWID;

CREATE TABLE session_tags (
    key     TEXT NOT NULL,
    value   TEXT NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (key, value, created)
) STRICT, WITHOUT ROWID;

-- Every name under which a target was ever reached, in lower case. Outlives the inventory and the sessions.
CREATE TABLE target_names (
    name      TEXT NOT NULL,
    target_id TEXT NOT NULL,
    PRIMARY KEY (name, target_id)
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT: a number is never given twice, also after the newest events were pruned.
CREATE TABLE events (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    actor   TEXT NOT NULL,
    session TEXT,
    facts   TEXT NOT NULL
) STRICT;

CREATE TABLE credentials (
    id        TEXT NOT NULL PRIMARY KEY,
    kind      TEXT NOT NULL,
    principal TEXT NOT NULL,
    digest    BLOB,
    note      TEXT NOT NULL,
    created   INTEGER NOT NULL,
    expires   INTEGER,
    revoked   INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE nodes (
    node    TEXT NOT NULL PRIMARY KEY,
    epoch   INTEGER NOT NULL,
    started INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
