-- How long a kernel gets livepatches, and whether a newer one is needed: JSON, as it stands in the kernel's documents.
CREATE TABLE coverage (
    build_id TEXT NOT NULL PRIMARY KEY REFERENCES kernels (build_id),
    body TEXT NOT NULL
) STRICT;
