//! Spillway against real servers: MariaDB, a local AWS, the Lambda runtime emulator, and processes that are killed.

// The harness itself: each part does what the other tests rely on.
mod harness_check;
