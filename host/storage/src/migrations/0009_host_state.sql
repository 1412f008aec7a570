-- State of the host, which was among the settings of the user.
CREATE TABLE queue_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    paused INTEGER NOT NULL,
    changes INTEGER NOT NULL
) STRICT;
CREATE TABLE paused_providers (
    provider TEXT PRIMARY KEY NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE deleted_events (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    through_cursor INTEGER NOT NULL
) STRICT;
CREATE TABLE last_boot (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    boot_id TEXT
) STRICT;
INSERT INTO queue_state (id, paused, changes)
    SELECT 1, coalesce(json_type(value, '$.all') = 'true', 0),
        iif(json_type(value, '$.change') = 'integer', json_extract(value, '$.change'), 0)
    FROM settings WHERE key = '.queue_paused' AND json_valid(value);
INSERT OR IGNORE INTO paused_providers (provider)
    SELECT name.value FROM settings s, json_each(s.value, '$.providers') AS name
    WHERE s.key = '.queue_paused' AND json_valid(s.value) AND name.type = 'text';
INSERT INTO deleted_events (id, through_cursor)
    SELECT 1, CAST(value AS INTEGER) FROM settings WHERE key = '.deleted_through';
INSERT INTO last_boot (id, boot_id)
    SELECT 1, iif(json_type(value) = 'text', json_extract(value, '$'), NULL)
    FROM settings WHERE key = '.boot' AND json_valid(value);
DELETE FROM settings WHERE key GLOB '.*';
