-- The first schema. Released migrations are never changed; what a later version needs comes in a later file.
PRAGMA application_id = 0x4F53544C;

CREATE TABLE capability_snapshots (
    num INTEGER PRIMARY KEY,
    provider TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    detected_us INTEGER NOT NULL
) STRICT;
CREATE INDEX capability_snapshots_newest ON capability_snapshots (provider, num);

CREATE TABLE runs (
    num INTEGER PRIMARY KEY,
    run_id BLOB NOT NULL UNIQUE,
    provider TEXT NOT NULL,
    status TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    started_us INTEGER,
    ended_us INTEGER,
    attempt INTEGER NOT NULL DEFAULT 0,
    priority INTEGER NOT NULL,
    mode TEXT NOT NULL,
    model TEXT,
    title TEXT NOT NULL,
    cwd TEXT NOT NULL,
    origin TEXT NOT NULL,
    reason TEXT,
    message TEXT,
    exit_code INTEGER,
    session_id TEXT,
    usage TEXT,
    sealed_pointers TEXT NOT NULL DEFAULT '[]',
    snapshot INTEGER REFERENCES capability_snapshots (num),
    terminal_cursor INTEGER,
    stored_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX runs_listed ON runs (status, provider, created_us);
CREATE INDEX runs_by_session ON runs (session_id, provider) WHERE session_id IS NOT NULL;
CREATE INDEX runs_by_snapshot ON runs (snapshot) WHERE snapshot IS NOT NULL;

CREATE TABLE run_bodies (
    run INTEGER NOT NULL REFERENCES runs (num) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    body ANY NOT NULL,
    PRIMARY KEY (run, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE scheduler_jobs (
    run INTEGER PRIMARY KEY REFERENCES runs (num) ON DELETE CASCADE,
    provider TEXT NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    enqueued_us INTEGER NOT NULL,
    not_before_us INTEGER,
    process TEXT,
    carry TEXT
) STRICT;
CREATE INDEX scheduler_jobs_open ON scheduler_jobs (state) WHERE state <> 'done';

CREATE TABLE conversations (
    num INTEGER PRIMARY KEY,
    conversation_id BLOB NOT NULL UNIQUE,
    provider TEXT NOT NULL,
    title TEXT,
    metadata TEXT NOT NULL DEFAULT '{}',
    session_id TEXT,
    cwd TEXT,
    archived_us INTEGER,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL
) STRICT;
CREATE INDEX conversations_by_update ON conversations (updated_us);

CREATE TABLE conversation_runs (
    conversation INTEGER NOT NULL REFERENCES conversations (num) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    run INTEGER NOT NULL UNIQUE REFERENCES runs (num) ON DELETE CASCADE,
    PRIMARY KEY (conversation, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE run_events (
    cursor INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER REFERENCES runs (num) ON DELETE CASCADE,
    seq INTEGER,
    conversation INTEGER REFERENCES conversations (num) ON DELETE CASCADE,
    at_us INTEGER NOT NULL,
    event_id BLOB NOT NULL,
    type TEXT NOT NULL,
    payload TEXT NOT NULL,
    CHECK ((run IS NULL) = (seq IS NULL))
) STRICT;
CREATE UNIQUE INDEX run_events_by_run ON run_events (run, seq) WHERE run IS NOT NULL;
CREATE INDEX run_events_by_conversation ON run_events (conversation, cursor) WHERE conversation IS NOT NULL;
CREATE INDEX run_events_notable ON run_events (run, cursor)
    WHERE type IN ('run.warning', 'run.compatibility_warning', 'run.structured_output');

CREATE TABLE run_artifacts (
    num INTEGER PRIMARY KEY,
    artifact_id BLOB NOT NULL UNIQUE,
    run INTEGER NOT NULL REFERENCES runs (num) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    path TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    created_us INTEGER NOT NULL
) STRICT;
CREATE INDEX run_artifacts_by_run ON run_artifacts (run);

CREATE TABLE profiles (
    profile_id BLOB PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    provider TEXT NOT NULL,
    config TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE settings (
    key TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL,
    updated_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE workspace_grants (
    path TEXT PRIMARY KEY NOT NULL,
    created_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE retention_policies (
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    days INTEGER,
    megabytes INTEGER,
    updated_us INTEGER NOT NULL,
    PRIMARY KEY (scope, name)
) STRICT, WITHOUT ROWID;

INSERT INTO retention_policies (scope, name, days, megabytes, updated_us) VALUES ('global', '', 90, 1024, 0);
