-- Scripts without spaces are indexed by their characters: every text is read once more.
INSERT INTO run_texts (run_texts) VALUES ('delete-all');
INSERT INTO conversation_texts (conversation_texts) VALUES ('delete-all');
DROP INDEX runs_to_index;
DROP INDEX conversations_to_index;
UPDATE runs SET indexed = 2 WHERE indexed = 1;
UPDATE conversations SET indexed = 2 WHERE indexed = 1;
CREATE INDEX runs_to_index ON runs (num) WHERE indexed <> 1;
CREATE INDEX conversations_to_index ON conversations (num) WHERE indexed <> 1;
