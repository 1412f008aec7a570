-- Failed and interrupted runs that nobody has acknowledged. Those of earlier versions count as acknowledged.
CREATE TABLE open_failures (
    run INTEGER PRIMARY KEY REFERENCES runs (num) ON DELETE CASCADE
) STRICT;
