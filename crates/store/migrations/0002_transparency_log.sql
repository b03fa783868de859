-- The transparency log: what happened, in lines of canonical JSON, and the hashes of its Merkle tree (RFC 6962).
-- It only grows: no statement changes or removes what is in it.

CREATE TABLE log_entries (
    position INTEGER NOT NULL PRIMARY KEY CHECK (position >= 0),
    entry BLOB NOT NULL CHECK (length(entry) BETWEEN 1 AND 4096)
) STRICT;

-- Every complete subtree of 2^height entries.
CREATE TABLE log_hashes (
    height INTEGER NOT NULL,
    position INTEGER NOT NULL,
    sha256 BLOB NOT NULL CHECK (length(sha256) = 32),
    PRIMARY KEY (height, position)
) STRICT, WITHOUT ROWID;

-- Heads as they were signed.
CREATE TABLE log_heads (
    size INTEGER NOT NULL,
    root TEXT NOT NULL CHECK (length(root) = 64),
    note TEXT NOT NULL,
    PRIMARY KEY (size, note)
) STRICT;

CREATE TRIGGER log_entries_stay BEFORE UPDATE ON log_entries
BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;
CREATE TRIGGER log_entries_are_not_removed BEFORE DELETE ON log_entries
BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;
CREATE TRIGGER log_hashes_stay BEFORE UPDATE ON log_hashes
BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;
CREATE TRIGGER log_hashes_are_not_removed BEFORE DELETE ON log_hashes
BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;
CREATE TRIGGER log_heads_stay BEFORE UPDATE ON log_heads
BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;
CREATE TRIGGER log_heads_are_not_removed BEFORE DELETE ON log_heads
BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;

-- Keys that are believed, in the order in which they came.
CREATE TABLE keys (
    id INTEGER NOT NULL PRIMARY KEY,
    purpose TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
    believed INTEGER NOT NULL,
    log_position INTEGER REFERENCES log_entries (position)
) STRICT;
CREATE INDEX keys_by_name ON keys (purpose, name);

-- The entry of each event. Events from before there was a log get theirs when the database is opened next.
ALTER TABLE patches ADD COLUMN log_position INTEGER REFERENCES log_entries (position);
ALTER TABLE channels ADD COLUMN log_position INTEGER REFERENCES log_entries (position);
ALTER TABLE withdrawn ADD COLUMN log_position INTEGER REFERENCES log_entries (position);
CREATE UNIQUE INDEX patches_by_log_position ON patches (log_position);
CREATE UNIQUE INDEX channels_by_log_position ON channels (log_position);
CREATE UNIQUE INDEX withdrawn_by_log_position ON withdrawn (log_position);
CREATE UNIQUE INDEX keys_by_log_position ON keys (log_position);

-- No event without its entry.
CREATE TRIGGER patches_are_logged BEFORE INSERT ON patches WHEN NEW.log_position IS NULL
BEGIN SELECT RAISE(ABORT, 'a patch needs an entry in the log'); END;
CREATE TRIGGER releases_are_logged BEFORE INSERT ON channels WHEN NEW.log_position IS NULL
BEGIN SELECT RAISE(ABORT, 'a release needs an entry in the log'); END;
CREATE TRIGGER withdrawals_are_logged BEFORE INSERT ON withdrawn WHEN NEW.log_position IS NULL
BEGIN SELECT RAISE(ABORT, 'a withdrawal needs an entry in the log'); END;
CREATE TRIGGER keys_are_logged BEFORE INSERT ON keys WHEN NEW.log_position IS NULL
BEGIN SELECT RAISE(ABORT, 'a key needs an entry in the log'); END;
