//! What the kernel says of a process.

use std::fs;

/// Resident memory of a process in bytes.
///
/// # Panics
/// If there is no such process.
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("VmRSS is there");
    let kilobytes: u64 = line
        .split_whitespace()
        .nth(1)
        .expect("it has a value")
        .parse()
        .expect("it is a number");
    kilobytes * 1024
}
