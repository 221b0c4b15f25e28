"""The commands of the AWS CLI that scripts/prove-redshift runs: the tests need no AWS CLI.

Calls of the Data API go to the double directly, because each start of boto3 takes longer than the call.
"""

import json
import os
import sys
import urllib.request

import jmespath


def options(arguments):
    """The options with values, such as {"sql": "SELECT 1"}, and the other arguments."""
    named, others = {}, []
    arguments = iter(arguments)
    for argument in arguments:
        if argument in ("--quiet", "--recursive"):
            continue
        if argument.startswith("--"):
            named[argument[2:]] = next(arguments)
        else:
            others.append(argument)
    return named, others


def pascal(name):
    """execute-statement as ExecuteStatement."""
    return "".join(word.capitalize() for word in name.split("-"))


def data_api(operation, named):
    """The response of the Data API."""
    body = json.dumps({pascal(name): value for name, value in named.items()}).encode()
    headers = {"X-Amz-Target": f"RedshiftData.{pascal(operation)}"}
    request = urllib.request.Request(os.environ["AWS_ENDPOINT_URL_REDSHIFT_DATA"], body, headers)
    with urllib.request.urlopen(request) as response:
        return json.loads(response.read())


def split(url):
    """Bucket and key of s3://BUCKET/KEY."""
    bucket, key = url.removeprefix("s3://").split("/", 1)
    return bucket, key


def s3(operation, others):
    """Copies a file into a bucket, or removes all objects with a prefix."""
    import boto3

    client = boto3.client("s3")
    if operation == "cp":
        bucket, key = split(others[1])
        client.upload_file(others[0], bucket, key)
        return
    bucket, prefix = split(others[0])
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", []):
            client.delete_object(Bucket=bucket, Key=found["Key"])


def other(service, operation, named):
    """The response of another service."""
    import boto3

    method = getattr(boto3.client({"s3api": "s3"}.get(service, service)), operation.replace("-", "_"))
    return method(**{pascal(name): value for name, value in named.items()})


def main():
    service, operation, *arguments = sys.argv[1:]
    named, others = options(arguments)
    if service == "s3":
        s3(operation, others)
        return
    query, form = named.pop("query", None), named.pop("output", "json")
    result = data_api(operation, named) if service == "redshift-data" else other(service, operation, named)
    result = jmespath.search(query, result) if query else result
    if form == "text":
        print(*(result if isinstance(result, list) else [result]), sep="\t")
    else:
        print(json.dumps(result, default=str))


main()
