-- The longest that a session may last, in microseconds, where its own document or policy bounds it.
ALTER TABLE sessions ADD COLUMN duration_max INTEGER;

-- Documents that steer sessions. A version is never changed once it is written.
CREATE TABLE documents (
    name            TEXT NOT NULL PRIMARY KEY,
    display_name    TEXT,
    default_version INTEGER NOT NULL,
    tags            TEXT NOT NULL,
    created         INTEGER NOT NULL,
    owner           TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE document_versions (
    name    TEXT NOT NULL REFERENCES documents (name) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    content TEXT NOT NULL,
    format  TEXT NOT NULL,
    label   TEXT,
    created INTEGER NOT NULL,
    author  TEXT NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;

-- Settings of the deployment that somebody has changed; all others have their defaults.
CREATE TABLE settings (
    key      TEXT NOT NULL PRIMARY KEY,
    value    TEXT NOT NULL,
    modified INTEGER NOT NULL,
    author   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
