"""Loads a CSV file from S3 with pandas.read_csv and DataFrame.to_sql, for `make bench`: `pandas_way.py KEY TABLE`.

All options and types are the defaults of pandas. It uses an existing table as it is, and creates a missing one.
"""

import os
import sys

import boto3
import pandas
import sqlalchemy

key, table = sys.argv[1:]
driver, query = {
    "mariadb": ("mysql+pymysql", {"charset": "utf8mb4"}),
    "postgres": ("postgresql+psycopg2", {"sslmode": "disable"}),
}[os.environ["RDS_ENGINE"]]
database = sqlalchemy.create_engine(
    sqlalchemy.URL.create(
        driver,
        username=os.environ["RDS_USER"],
        password=os.environ["RDS_PASSWORD"],
        host=os.environ["RDS_HOST"],
        port=int(os.environ["RDS_PORT"]),
        database=os.environ["RDS_DB"],
        query=query,
    )
)
s3 = boto3.client("s3", region_name=os.environ["AWS_REGION"])
frame = pandas.read_csv(s3.get_object(Bucket=os.environ["S3_BUCKET"], Key=key)["Body"])
with database.begin() as connection:
    frame.to_sql(table, connection, index=False, if_exists="append", method="multi", chunksize=10_000)
