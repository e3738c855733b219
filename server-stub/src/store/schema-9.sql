-- Numbers of the order of changes that were never given, because the hub leaves some out when it is started.
CREATE TABLE skipped (
    before INTEGER PRIMARY KEY,  -- the last number before them
    last   INTEGER NOT NULL      -- the last of them; the next one is given
) STRICT;
