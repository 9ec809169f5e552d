-- SHA-256 of a session's recording, in hex, once it is whole.
ALTER TABLE sessions ADD COLUMN recording_digest TEXT;

-- What is known of recordings beside themselves. Outlives the session's own row.
CREATE TABLE recordings (
    session    TEXT NOT NULL PRIMARY KEY,
    began      INTEGER NOT NULL,
    principal  TEXT NOT NULL,
    target     TEXT NOT NULL,
    bytes      INTEGER NOT NULL,
    lasted     INTEGER NOT NULL,
    keep_until INTEGER NOT NULL,
    hold       TEXT,
    removed    INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE INDEX recordings_expiry ON recordings (keep_until) WHERE removed = 0 AND hold IS NULL;

-- What was done in sessions. `at` is the store's time of it.
CREATE TABLE acts (
    id        INTEGER PRIMARY KEY,
    session   TEXT NOT NULL,
    principal TEXT NOT NULL,
    at        INTEGER NOT NULL,
    kind      TEXT NOT NULL,
    source    TEXT NOT NULL,
    text      TEXT NOT NULL,
    facts     TEXT NOT NULL
) STRICT;

CREATE INDEX acts_session ON acts (session, at);

-- Letters, digits and what holds paths and options together make a word.
CREATE VIRTUAL TABLE acts_words USING fts5 (text, content = 'acts', content_rowid = 'id', tokenize = "unicode61");

CREATE TRIGGER acts_added AFTER INSERT ON acts BEGIN
    INSERT INTO acts_words (rowid, text) VALUES (new.id, new.text);
END;

CREATE TRIGGER acts_removed AFTER DELETE ON acts BEGIN
    INSERT INTO acts_words (acts_words, rowid, text) VALUES ('delete', old.id, old.text);
END;
