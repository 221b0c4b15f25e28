-- Statements that Redshift does not accept. scripts/check-redshift-sql proves that its grammar refuses them.
COPY "t" FROM 's3://bucket/manifest.json' IAM_ROLE default FORMAT AS PARQUET FROBNICATE 7;
COPY "t" FROM STDIN WITH (FORMAT csv);
INSERT INTO "t" (id) VALUES (1) ON CONFLICT (id) DO NOTHING;
INSERT INTO "t" (id) VALUES (1) RETURNING id;
LOCK "t" IN;
CREATE TABLE "t" (id BIGINT) SORTKEY;
