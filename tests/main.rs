//! Spillway against real servers.
