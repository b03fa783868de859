-- The report as it was sent; NULL: by a server before this migration, from the other columns.
ALTER TABLE reports ADD COLUMN body TEXT;

-- The last reports of each machine. `id` is the host's own, by which one that it sends twice is taken once; NULL: by an
-- earlier client.
CREATE TABLE report_history (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    machine TEXT NOT NULL REFERENCES machines (machine) ON DELETE CASCADE,
    id TEXT CHECK (length(id) = 64),
    received INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (machine, id)
) STRICT;
CREATE INDEX report_history_by_machine ON report_history (machine, number);
