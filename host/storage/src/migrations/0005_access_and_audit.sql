-- Access tokens of the API over TCP, and the audit trail.
CREATE TABLE access_tokens (
    name TEXT PRIMARY KEY NOT NULL,
    class TEXT NOT NULL,
    digest BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER,
    used_us INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE audit_log (
    seq INTEGER PRIMARY KEY,
    at_us INTEGER NOT NULL,
    kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    run_id BLOB,
    facts TEXT NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX audit_log_by_kind ON audit_log (kind, seq);
CREATE INDEX audit_log_by_run ON audit_log (run_id, seq) WHERE run_id IS NOT NULL;

CREATE TABLE audit_marks (
    name TEXT PRIMARY KEY NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    mac BLOB NOT NULL
) STRICT, WITHOUT ROWID;
