//! How much of the machine a process uses.

use std::fs;
use std::time::{Duration, Instant};

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(1);
const PAGE: u64 = 4096;

/// One look.
#[derive(Debug, Clone, Copy)]
pub struct Gauges {
    /// Bytes in memory.
    pub resident: u64,
    /// Open file descriptors.
    pub descriptors: u64,
}

impl Gauges {
    /// What this process uses now.
    pub fn of(process: u32) -> Self {
        let statm = fs::read_to_string(format!("/proc/{process}/statm")).expect("the process lives");
        let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).expect("the process is ours").count();
        Self { resident: pages * PAGE, descriptors: descriptors as u64 }
    }
}

/// Looks until then.
pub async fn watch(process: u32, until: Instant) -> Vec<Gauges> {
    let mut looks = Vec::new();
    while Instant::now() < until {
        looks.push(Gauges::of(process));
        tokio::time::sleep(EVERY).await;
    }
    looks
}
