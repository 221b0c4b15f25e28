//! Glue in memory: tables and partitions as the JSON of the requests, and the runs of a job.

use serde_json::{Value, json};

use super::{Call, Reply, State};

const OPERATIONS: [&str; 12] = [
    "GetDatabase",
    "GetTable",
    "CreateTable",
    "UpdateTable",
    "GetPartition",
    "CreatePartition",
    "BatchUpdatePartition",
    "DeletePartition",
    "StartJobRun",
    "GetJobRun",
    "GetJobRuns",
    "GetJob",
];

/// The name of the operation that a request asks for, and the table that it is about.
pub(super) fn operation(target: &str, input: &Value) -> (&'static str, String) {
    let name = target.trim_start_matches("AWSGlue.");
    let operation = OPERATIONS.into_iter().find(|operation| *operation == name);
    let table = [&input["TableName"], &input["TableInput"]["Name"], &input["Name"]].into_iter().find_map(Value::as_str);
    let operation = operation.unwrap_or_else(|| panic!("the Glue double does not know the operation {name}"));
    (operation, table.unwrap_or_default().to_owned())
}

pub(super) fn error(status: u16, code: &str) -> Reply {
    reply(status, &json!({"__type": code, "Message": "m"}))
}

impl State {
    pub(super) fn glue(&mut self, call: &Call<'_>) -> Reply {
        let input: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        match call.operation {
            "GetDatabase" => found("Database", Some(&json!({"Name": input["Name"]}))),
            "GetTable" => found("Table", self.tables.get(&call.key)),
            "CreateTable" if self.tables.contains_key(&call.key) => error(400, "AlreadyExistsException"),
            "CreateTable" | "UpdateTable" => {
                self.tables.insert(call.key.clone(), input["TableInput"].clone());
                reply(200, &json!({}))
            }
            "GetPartition" => found("Partition", self.partitions.get(&partition(call, &input["PartitionValues"]))),
            "CreatePartition" => {
                let key = partition(call, &input["PartitionInput"]["Values"]);
                if self.partitions.contains_key(&key) {
                    return error(400, "AlreadyExistsException");
                }
                self.partitions.insert(key, input["PartitionInput"].clone());
                reply(200, &json!({}))
            }
            "BatchUpdatePartition" => {
                for entry in input["Entries"].as_array().into_iter().flatten() {
                    let key = partition(call, &entry["PartitionValueList"]);
                    self.partitions.insert(key, entry["PartitionInput"].clone());
                }
                reply(200, &json!({"Errors": []}))
            }
            "DeletePartition" => match self.partitions.remove(&partition(call, &input["PartitionValues"])) {
                Some(_) => reply(200, &json!({})),
                None => error(400, "EntityNotFoundException"),
            },
            "StartJobRun" => {
                let id = format!("jr_{}", self.job_runs.len() + 1);
                self.job_runs.insert(0, json!({"Id": id, "JobRunState": "STARTING", "StartedOn": 1_764_547_200, "Arguments": input["Arguments"]}));
                reply(200, &json!({"JobRunId": id}))
            }
            "GetJobRun" => found("JobRun", self.job_runs.iter().find(|run| run["Id"] == input["RunId"])),
            "GetJob" if input["JobName"] == "large-files" => {
                reply(200, &json!({"Job": {"Name": "large-files", "ExecutionProperty": {"MaxConcurrentRuns": 3}}}))
            }
            "GetJob" => error(400, "EntityNotFoundException"),
            "GetJobRuns" => reply(200, &json!({"JobRuns": self.job_runs})),
            _ => reply(200, &json!({"Errors": []})),
        }
    }
}

/// The table and the values of a partition.
fn partition(call: &Call<'_>, values: &Value) -> String {
    format!("{} {values}", call.key)
}

fn found(name: &str, value: Option<&Value>) -> Reply {
    match value {
        Some(value) => reply(200, &json!({name: value})),
        None => error(400, "EntityNotFoundException"),
    }
}

fn reply(status: u16, body: &Value) -> Reply {
    let headers = vec![("content-type".to_owned(), "application/x-amz-json-1.1".to_owned())];
    Reply { status, headers, body: body.to_string().into_bytes() }
}
