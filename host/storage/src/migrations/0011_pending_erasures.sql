-- Deletions on request whose data is not erased from the files yet.
CREATE TABLE pending_erasures (
    -- 'run', 'conversation'
    kind TEXT NOT NULL,
    id BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
