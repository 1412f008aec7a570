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
