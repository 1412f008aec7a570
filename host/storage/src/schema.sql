-- The whole present schema. A new database gets it by the numbered migrations beside this file; a test compares.
--
-- Conventions
--   num         internal key: small, in the order of creation; ids of the interface are UUIDs of version 7 in 16 bytes
--   *_us        microseconds since the Unix epoch
--   JSON        stands in TEXT columns, written by the host
-- All texts are redacted before they come here. The one place for true values is a sealed body (`run_bodies`).
-- `user_version` counts the migrations, `application_id` is 'OSTL'.

-- What the probes of an installed CLI found. Rows are never changed but for the time: runs refer to them.
CREATE TABLE capability_snapshots (
    num INTEGER PRIMARY KEY,
    provider TEXT NOT NULL,
    -- What it was made of: settings, executable, plugin.
    fingerprint TEXT NOT NULL,
    -- JSON: the snapshot as the interface shows it.
    snapshot TEXT NOT NULL,
    detected_us INTEGER NOT NULL
) STRICT;
CREATE INDEX capability_snapshots_newest ON capability_snapshots (provider, num);

-- A run: narrow, because it changes a few times and lists read many. Its long texts are in run_bodies, its answer is
-- in its terminal event.
CREATE TABLE runs (
    num INTEGER PRIMARY KEY,
    run_id BLOB NOT NULL UNIQUE,
    provider TEXT NOT NULL,
    status TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    started_us INTEGER,
    ended_us INTEGER,
    -- Attempts so far.
    attempt INTEGER NOT NULL DEFAULT 0,
    priority INTEGER NOT NULL,
    mode TEXT NOT NULL,
    model TEXT,
    title TEXT NOT NULL,
    cwd TEXT NOT NULL,
    -- Who asked for it.
    origin TEXT NOT NULL,
    reason TEXT,
    message TEXT,
    exit_code INTEGER,
    -- The provider's session.
    session_id TEXT,
    -- JSON: tokens and money.
    usage TEXT,
    -- JSON array: pointers of the payload whose true values are or were sealed.
    sealed_pointers TEXT NOT NULL DEFAULT '[]',
    snapshot INTEGER REFERENCES capability_snapshots (num),
    -- Cursor of its terminal event.
    terminal_cursor INTEGER,
    -- About how many bytes its events and texts take in the file, known at its end.
    stored_bytes INTEGER NOT NULL DEFAULT 0,
    -- 1: run_texts has what there is by now. 2: it is to be read again, and its size counts already.
    indexed INTEGER NOT NULL DEFAULT 0
) STRICT;
-- What lists filter by: counting and picking go along one of these. Runs of one status and provider lie in the order of
-- their creation, so that a page of them needs no sorting.
CREATE INDEX runs_listed ON runs (status, provider);
CREATE INDEX runs_by_creation ON runs (created_us);
CREATE INDEX runs_by_session ON runs (session_id, provider) WHERE session_id IS NOT NULL;
CREATE INDEX runs_by_snapshot ON runs (snapshot) WHERE snapshot IS NOT NULL;
-- Retention goes along this one.
CREATE INDEX runs_by_end ON runs (ended_us) WHERE ended_us IS NOT NULL;
CREATE INDEX runs_to_index ON runs (num) WHERE indexed <> 1;

-- Long texts of a run, written once. Apart from `runs`, so that a change of status does not write megabytes again.
CREATE TABLE run_bodies (
    run INTEGER NOT NULL REFERENCES runs (num) ON DELETE CASCADE,
    -- 'payload': the effective start payload (JSON, redacted). 'seal': the true one, encrypted; gone at the end.
    kind TEXT NOT NULL,
    body ANY NOT NULL,
    PRIMARY KEY (run, kind)
) STRICT, WITHOUT ROWID;

-- Failed and interrupted runs that nobody has acknowledged.
CREATE TABLE open_failures (
    run INTEGER PRIMARY KEY REFERENCES runs (num) ON DELETE CASCADE
) STRICT;

-- The job of a run: what the queue and a host that starts again must know.
CREATE TABLE scheduler_jobs (
    run INTEGER PRIMARY KEY REFERENCES runs (num) ON DELETE CASCADE,
    -- The lane.
    provider TEXT NOT NULL,
    -- 'ready', 'scheduled', 'retrying', 'running', 'done'
    state TEXT NOT NULL,
    -- The attempt that it is, or will be.
    attempt INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    enqueued_us INTEGER NOT NULL,
    not_before_us INTEGER,
    -- JSON of the runner: by what the processes of a running attempt are known after the host's death.
    process TEXT,
    -- JSON of the engine: what it remembers from attempt to attempt.
    carry TEXT
) STRICT;
CREATE INDEX scheduler_jobs_open ON scheduler_jobs (state) WHERE state <> 'done';

-- A thread of runs that resume the same provider session.
CREATE TABLE conversations (
    num INTEGER PRIMARY KEY,
    conversation_id BLOB NOT NULL UNIQUE,
    provider TEXT NOT NULL,
    -- NULL until the first message gives it one.
    title TEXT,
    -- JSON object of the client.
    metadata TEXT NOT NULL DEFAULT '{}',
    session_id TEXT,
    -- The folder of its last run.
    cwd TEXT,
    archived_us INTEGER,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    -- 1: conversation_texts has the title. 2: it is to be read again.
    indexed INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX conversations_by_update ON conversations (updated_us);
CREATE INDEX conversations_to_index ON conversations (num) WHERE indexed <> 1;

-- The runs of a conversation, in order.
CREATE TABLE conversation_runs (
    conversation INTEGER NOT NULL REFERENCES conversations (num) ON DELETE CASCADE,
    -- Counts from 1.
    position INTEGER NOT NULL,
    run INTEGER NOT NULL UNIQUE REFERENCES runs (num) ON DELETE CASCADE,
    PRIMARY KEY (conversation, position)
) STRICT, WITHOUT ROWID;

-- Everything that happened, in order. AUTOINCREMENT: a cursor is never given twice.
CREATE TABLE run_events (
    cursor INTEGER PRIMARY KEY AUTOINCREMENT,
    -- NULL for events without a run.
    run INTEGER REFERENCES runs (num) ON DELETE CASCADE,
    -- Counts from 1 in each run, without gaps.
    seq INTEGER,
    conversation INTEGER REFERENCES conversations (num) ON DELETE CASCADE,
    at_us INTEGER NOT NULL,
    event_id BLOB NOT NULL,
    type TEXT NOT NULL,
    -- JSON. Last, so that a reader who passes over the row does not load it.
    payload TEXT NOT NULL,
    CHECK ((run IS NULL) = (seq IS NULL))
) STRICT;
CREATE UNIQUE INDEX run_events_by_run ON run_events (run, seq) WHERE run IS NOT NULL;
CREATE INDEX run_events_by_conversation ON run_events (conversation, cursor) WHERE conversation IS NOT NULL;
-- The few events that a run's record shows.
CREATE INDEX run_events_notable ON run_events (run, cursor)
    WHERE type IN ('run.warning', 'run.compatibility_warning', 'run.structured_output');
-- The few events without a run, for retention.
CREATE INDEX run_events_without_run ON run_events (at_us) WHERE run IS NULL;

-- Files that a run left behind on purpose.
CREATE TABLE run_artifacts (
    num INTEGER PRIMARY KEY,
    artifact_id BLOB NOT NULL UNIQUE,
    run INTEGER NOT NULL REFERENCES runs (num) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    path TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    -- 1: the file lies in a folder of the host's and goes with the run. 0: it lies where a user wanted it, and stays.
    kept INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX run_artifacts_by_run ON run_artifacts (run);

-- Named defaults for the start payload.
CREATE TABLE profiles (
    profile_id BLOB PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    provider TEXT NOT NULL,
    -- JSON: a part of a start payload.
    config TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What the user has set at run time, over the configuration file.
CREATE TABLE settings (
    key TEXT PRIMARY KEY NOT NULL,
    -- JSON.
    value TEXT NOT NULL,
    updated_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Whether the whole queue is paused; one row. Of two states, the one with more changes is the newer one.
CREATE TABLE queue_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    paused INTEGER NOT NULL,
    changes INTEGER NOT NULL
) STRICT;

-- Provider instances that are paused individually.
CREATE TABLE paused_providers (
    provider TEXT PRIMARY KEY NOT NULL
) STRICT, WITHOUT ROWID;

-- The boot in which the database was last opened; one row. After a crash of the machine, cursors skip ahead.
CREATE TABLE last_boot (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    boot_id TEXT
) STRICT;

-- Up to which cursor events were deleted; one row. A reader that continues before it may have missed some.
CREATE TABLE deleted_events (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    through_cursor INTEGER NOT NULL
) STRICT;

-- Deletions on request whose data is not erased from the files yet. A row is written in the transaction that begins the
-- deletion, so that the next host completes it.
CREATE TABLE pending_erasures (
    -- 'run', 'conversation'
    kind TEXT NOT NULL,
    id BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

-- Folders in which runs may work.
CREATE TABLE workspace_grants (
    path TEXT PRIMARY KEY NOT NULL,
    created_us INTEGER NOT NULL,
    -- Whether the settings that lie in the folder itself (hooks, permissions, MCP servers) count for runs.
    trust_settings INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- How long and how much is kept of ended runs, where the user says it otherwise than the configuration's file. NULL
-- leaves it to the file or the wider scope, 0 is without limit.
CREATE TABLE retention_policies (
    -- 'global', 'provider', 'workspace'
    scope TEXT NOT NULL,
    -- Provider instance or folder; empty for 'global'.
    name TEXT NOT NULL,
    days INTEGER,
    -- 10^6 bytes.
    megabytes INTEGER,
    updated_us INTEGER NOT NULL,
    PRIMARY KEY (scope, name)
) STRICT, WITHOUT ROWID;

-- Which providers have a token, and in which store it lies: 'secret-service', 'keyutils' or 'file'. Never the token. A
-- run of such a provider does not start without it.
CREATE TABLE provider_tokens (
    provider TEXT PRIMARY KEY NOT NULL,
    store TEXT NOT NULL,
    saved_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who may call over TCP. `digest` is SHA-256 of the token, which is stored nowhere.
CREATE TABLE access_tokens (
    name TEXT PRIMARY KEY NOT NULL,
    -- 'read', 'run', 'operate'
    class TEXT NOT NULL,
    digest BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER,
    used_us INTEGER
) STRICT, WITHOUT ROWID;

-- The audit trail: only ever appended to, and deleted from its beginning. Nothing refers to runs, so that records outlive
-- them.
CREATE TABLE audit_log (
    -- Counts from 1 without gaps.
    seq INTEGER PRIMARY KEY,
    at_us INTEGER NOT NULL,
    kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    run_id BLOB,
    -- JSON object, redacted.
    facts TEXT NOT NULL,
    -- SHA-256 over the hash before it and this row, see storage/audit.rs.
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX audit_log_by_kind ON audit_log (kind, seq);
CREATE INDEX audit_log_by_run ON audit_log (run_id, seq) WHERE run_id IS NOT NULL;

-- Signed ends of the audit trail: 'head' is its newest row, 'anchor' the last one that was deleted. `mac` is HMAC-SHA256
-- with a key that lies in a file of its own.
CREATE TABLE audit_marks (
    name TEXT PRIMARY KEY NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    mac BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- What each file of the plugin folder held when it was last usable: a file that is damaged later is known for what it was.
CREATE TABLE plugin_files (
    path TEXT PRIMARY KEY NOT NULL,
    -- 'provider', 'redactor', 'policy'
    kind TEXT NOT NULL,
    name TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Components of provider plugins that somebody has approved. Nothing of others runs.
CREATE TABLE plugin_trust (
    -- SHA-256 in lower-case hex.
    digest TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    approved_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The words of runs and conversations; rowid is their num. Without contents: what they index is stored once, elsewhere.
CREATE VIRTUAL TABLE run_texts USING fts5 (
    prompt, answer, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);
CREATE VIRTUAL TABLE conversation_texts USING fts5 (
    title, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);
