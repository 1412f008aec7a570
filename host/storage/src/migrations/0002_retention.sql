-- What the user has not said is not stored: the defaults are the configuration's.
DELETE FROM retention_policies;
ALTER TABLE run_artifacts ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
CREATE INDEX runs_by_end ON runs (ended_us) WHERE ended_us IS NOT NULL;
CREATE INDEX run_events_without_run ON run_events (at_us) WHERE run IS NULL;
