//! Everything Spillway knows about data.
