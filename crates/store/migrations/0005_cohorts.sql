-- Under which id a machine is assigned, and to which cohort. Nothing is known of the id of one that an earlier version enrolled.
ALTER TABLE machines ADD COLUMN host TEXT CHECK (length(host) = 32);
ALTER TABLE machines ADD COLUMN cohort TEXT;
