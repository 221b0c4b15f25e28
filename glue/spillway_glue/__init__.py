"""The parts of the Glue job `glue/load.py`. Only `rows` needs Spark, and only `database` needs py4j."""
