-- How much of a session its target's rule wanted recorded; not known of sessions of earlier releases.
ALTER TABLE sessions ADD COLUMN recording_rule TEXT;
