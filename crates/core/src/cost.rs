//! The cost of work on AWS, in US dollars.
//!
//! It consists of the time on a function or task, the Lambda invocation, and the S3 requests. Prices are the list prices of
//! us-east-1 in November 2026 (<https://aws.amazon.com/lambda/pricing>, `/fargate/pricing`, `/s3/pricing`), without free
//! tiers and discounts. Not included: database, Glue (the first million requests of a month are free), logs, storage, traffic.

use std::time::Duration;

/// Dollars per gigabyte-second of a Lambda function.
const LAMBDA_GB_SECOND: f64 = if IS_ARM { 0.000_013_333_4 } else { 0.000_016_666_7 };
/// Dollars per invocation of a Lambda function.
const LAMBDA_REQUEST: f64 = 0.20 / 1e6;
/// Dollars per vCPU-hour on Fargate.
const FARGATE_VCPU_HOUR: f64 = if IS_ARM { 0.032_38 } else { 0.040_48 };
/// Dollars per gigabyte-hour on Fargate.
const FARGATE_GB_HOUR: f64 = if IS_ARM { 0.003_56 } else { 0.004_445 };
/// Dollars per PUT, COPY, POST or LIST request to S3 Standard.
const S3_WRITE: f64 = 0.005 / 1e3;
/// Dollars per GET or HEAD request. DELETE is free.
const S3_READ: f64 = 0.0004 / 1e3;

const IS_ARM: bool = cfg!(target_arch = "aarch64");

/// The function or task that the work runs in, with its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compute {
    /// A Lambda function.
    Lambda {
        /// `AWS_LAMBDA_FUNCTION_MEMORY_SIZE`, in megabytes.
        memory_mb: u32,
    },
    /// A Fargate task.
    Fargate {
        /// `TASK_CPU`: 1024 units are one vCPU.
        cpu_units: u32,
        /// `TASK_MEMORY`, in megabytes.
        memory_mb: u32,
    },
}

/// Numbers of S3 requests by price class. An object's share of requests for several objects is a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Requests {
    /// PUT, COPY, POST and LIST.
    pub writes: f64,
    /// GET and HEAD.
    pub reads: f64,
}

impl Requests {
    /// The requests after `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { writes: (self.writes - earlier.writes).max(0.0), reads: (self.reads - earlier.reads).max(0.0) }
    }

    /// The sum of both.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Self { writes: self.writes + others.writes, reads: self.reads + others.reads }
    }

    /// An equal share of these requests for each of `count` objects.
    #[must_use]
    pub fn among(self, count: u32) -> Self {
        let count = f64::from(count.max(1));
        Self { writes: self.writes / count, reads: self.reads / count }
    }

    fn dollars(self) -> f64 {
        self.writes * S3_WRITE + self.reads * S3_READ
    }
}

impl Compute {
    /// The memory of the function or task in bytes.
    pub fn memory_bytes(self) -> u64 {
        match self {
            Self::Lambda { memory_mb } | Self::Fargate { memory_mb, .. } => u64::from(memory_mb) << 20,
        }
    }

    /// The cost of this time and these requests. Each object counts as one invocation.
    pub fn dollars(self, time: Duration, requests: Requests) -> f64 {
        let seconds = time.as_secs_f64();
        let gigabytes = |megabytes: u32| f64::from(megabytes) / 1024.0;
        let compute = match self {
            Self::Lambda { memory_mb } => gigabytes(memory_mb) * seconds * LAMBDA_GB_SECOND + LAMBDA_REQUEST,
            Self::Fargate { cpu_units, memory_mb } => {
                let hours = seconds / 3600.0;
                let vcpus = f64::from(cpu_units) / 1024.0;
                (vcpus * FARGATE_VCPU_HOUR + gigabytes(memory_mb) * FARGATE_GB_HOUR) * hours
            }
        };
        compute + requests.dollars()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_compute_costs_the_list_price() {
        let day = Duration::from_secs(24 * 3600);
        let none = Requests::default();
        let lambda = Compute::Lambda { memory_mb: 512 }.dollars(day, none);
        let fargate = Compute::Fargate { cpu_units: 2048, memory_mb: 4096 }.dollars(day, none);
        let (lambda_list, fargate_list) = if IS_ARM { (0.576_003, 1.896) } else { (0.720_002, 2.369_76) };
        assert!((lambda - lambda_list).abs() < 1e-5, "{lambda}");
        assert!((fargate - fargate_list).abs() < 1e-5, "{fargate}");
    }

    #[test]
    fn a_thousand_requests_of_each_class_cost_the_list_price() {
        let compute = Compute::Fargate { cpu_units: 256, memory_mb: 512 };
        let requests = Requests { writes: 1000.0, reads: 1000.0 }.since(Requests::default());
        assert!((compute.dollars(Duration::ZERO, requests) - 0.0054).abs() < 1e-9);
    }
}
