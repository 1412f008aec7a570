-- Which providers have a token, and in which store it lies. Never the token.
CREATE TABLE provider_tokens (
    provider TEXT PRIMARY KEY NOT NULL,
    store TEXT NOT NULL,
    saved_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
