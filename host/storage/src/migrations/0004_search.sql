-- Words of runs and conversations. What is there already is indexed by and by, as what comes is.
CREATE VIRTUAL TABLE run_texts USING fts5 (
    prompt, answer, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);
CREATE VIRTUAL TABLE conversation_texts USING fts5 (
    title, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);
ALTER TABLE runs ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX runs_to_index ON runs (num) WHERE indexed = 0;
ALTER TABLE conversations ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX conversations_to_index ON conversations (num) WHERE indexed = 0;

-- Runs of one status and provider lie in the order of their creation now, so that a page of them needs no sorting.
DROP INDEX runs_listed;
CREATE INDEX runs_listed ON runs (status, provider);
CREATE INDEX runs_by_creation ON runs (created_us);
