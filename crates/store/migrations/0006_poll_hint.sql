-- How long hosts are asked to wait between two checks, in seconds: one row, or none when nothing is said.
CREATE TABLE poll_hint (
    only INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    seconds INTEGER NOT NULL CHECK (seconds > 0)
) STRICT;
