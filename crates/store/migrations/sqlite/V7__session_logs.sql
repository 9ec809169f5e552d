-- Where a session's output is put once it is over, as JSON; nothing of sessions for which nobody asked.
ALTER TABLE sessions ADD COLUMN logs TEXT;

-- Which of those places do not have it yet.
CREATE TABLE logs_due (
    session TEXT NOT NULL,
    place   TEXT NOT NULL,
    PRIMARY KEY (session, place)
) STRICT, WITHOUT ROWID;
