//! The real binary, as people and scripts use it: what it prints where, and its exit codes.
//!
//! `GATEWAY_YAML.md`, section 8: 0 yes, 1 no, 2 wrong usage, 3 could not find out, 4 unknown: money may have moved.

mod book;
mod chain;
mod crowd;
mod demo;
mod departure;
mod files;
mod ledger;
mod log;
mod output;
mod pause;
mod purchases;
mod seller;
mod signals;
mod support;
mod upgrade;
