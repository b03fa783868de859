-- Times are seconds since 1970 in UTC. Digests and build-ids are lower-case hexadecimal.

CREATE TABLE tiers (
    name TEXT NOT NULL PRIMARY KEY,
    position INTEGER NOT NULL UNIQUE
) STRICT;
INSERT INTO tiers (name, position) VALUES ('edge', 0), ('beta', 1), ('candidate', 2), ('stable', 3);

-- Enrolment tokens. The token itself is nowhere; `uses` counts machines, not attempts.
CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
    tier TEXT NOT NULL REFERENCES tiers (name),
    created INTEGER NOT NULL,
    expires INTEGER,
    use_limit INTEGER CHECK (use_limit > 0),
    uses INTEGER NOT NULL DEFAULT 0,
    revoked INTEGER
) STRICT;

-- `machine` is a keyed hash that the host makes of its machine id.
CREATE TABLE machines (
    machine TEXT NOT NULL PRIMARY KEY CHECK (length(machine) = 64),
    token_id TEXT NOT NULL UNIQUE,
    token_sha256 TEXT NOT NULL CHECK (length(token_sha256) = 64),
    enrolled_with TEXT NOT NULL REFERENCES tokens (id),
    tier TEXT NOT NULL REFERENCES tiers (name),
    enrolled INTEGER NOT NULL
) STRICT;

-- The latest report of each machine: a state, not a history.
CREATE TABLE reports (
    machine TEXT NOT NULL PRIMARY KEY REFERENCES machines (machine) ON DELETE CASCADE,
    received INTEGER NOT NULL,
    architecture TEXT NOT NULL,
    release TEXT NOT NULL,
    build_id TEXT NOT NULL,
    client_version TEXT NOT NULL,
    at INTEGER NOT NULL,
    check_state TEXT NOT NULL,
    patch_state TEXT NOT NULL,
    patch_version TEXT,
    error TEXT
) STRICT;
CREATE INDEX reports_by_kernel ON reports (build_id);

-- Kernels that a patch was ever published for. `revision` rises with everything that may change their documents.
CREATE TABLE kernels (
    build_id TEXT NOT NULL PRIMARY KEY,
    architecture TEXT NOT NULL,
    release TEXT NOT NULL,
    revision INTEGER NOT NULL DEFAULT 1
) STRICT;

-- `manifest` and `signature` are exactly what the vendor signed and the signature over it.
CREATE TABLE patches (
    id INTEGER NOT NULL PRIMARY KEY,
    major INTEGER NOT NULL,
    minor INTEGER NOT NULL,
    build_id TEXT NOT NULL REFERENCES kernels (build_id),
    module_sha256 TEXT NOT NULL CHECK (length(module_sha256) = 64),
    module_size_bytes INTEGER NOT NULL,
    manifest TEXT NOT NULL,
    signature BLOB NOT NULL,
    published INTEGER NOT NULL,
    UNIQUE (major, minor, build_id)
) STRICT;
CREATE INDEX patches_by_module ON patches (module_sha256);
CREATE INDEX patches_by_kernel ON patches (build_id);

-- Which patch is in which tier.
CREATE TABLE channels (
    tier TEXT NOT NULL REFERENCES tiers (name),
    patch_id INTEGER NOT NULL REFERENCES patches (id),
    released INTEGER NOT NULL,
    PRIMARY KEY (tier, patch_id)
) STRICT;

-- Withdrawal is final and holds for every kernel.
CREATE TABLE withdrawn (
    major INTEGER NOT NULL,
    minor INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (major, minor)
) STRICT;

-- Signed documents as served, so that they and their ETags outlive a restart.
CREATE TABLE documents (
    build_id TEXT NOT NULL REFERENCES kernels (build_id),
    tier TEXT NOT NULL REFERENCES tiers (name),
    version INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    content_sha256 TEXT NOT NULL CHECK (length(content_sha256) = 64),
    issued INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (build_id, tier)
) STRICT;
