"""A hand-written script for `make bench` that loads every CSV file under a prefix: `small_files.py PREFIX TABLE`.

For each file, it inserts the rows with one statement and a ledger row, commits, copies the object to `processed/`, and
deletes the source. One connection loads all files, one after another. There is no lease, no check of the stored rows, and no
fallback.
"""

import csv
import io
import os
import sys

import boto3

prefix, table = sys.argv[1:]
bucket = os.environ["S3_BUCKET"]
login = {
    "host": os.environ["RDS_HOST"],
    "port": int(os.environ["RDS_PORT"]),
    "user": os.environ["RDS_USER"],
    "password": os.environ["RDS_PASSWORD"],
}
if os.environ["RDS_ENGINE"] == "postgres":
    import psycopg2

    connection = psycopg2.connect(**login, dbname=os.environ["RDS_DB"], sslmode="disable")
else:
    import pymysql

    connection = pymysql.connect(**login, database=os.environ["RDS_DB"], charset="utf8mb4")
cursor = connection.cursor()
s3 = boto3.client("s3", region_name=os.environ["AWS_REGION"])

cursor.execute(
    "CREATE TABLE IF NOT EXISTS script_ledger (object_key VARCHAR(500), etag VARCHAR(64), row_count BIGINT, "
    "loaded_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (object_key, etag))"
)
connection.commit()
for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
    for listed in page.get("Contents", []):
        key = listed["Key"]
        response = s3.get_object(Bucket=bucket, Key=key)
        header, *records = csv.reader(io.StringIO(response["Body"].read().decode(), newline=""))
        placeholders = "(" + ", ".join(["%s"] * len(header)) + ")"
        cursor.execute(
            "INSERT INTO script_ledger (object_key, etag, row_count) VALUES (%s, %s, %s)", (key, response["ETag"], len(records))
        )
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(header)}) VALUES " + ", ".join([placeholders] * len(records)),
            [value for record in records for value in record],
        )
        connection.commit()
        s3.copy_object(Bucket=bucket, Key="processed/" + key, CopySource={"Bucket": bucket, "Key": key})
        s3.delete_object(Bucket=bucket, Key=key)
