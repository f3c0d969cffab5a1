//! Requests as they come: one begins in the middle of a minute and ends in that of the next one, one line in a hundred
//! stands elsewhere than usual, and half of the samples were taken a second after the others.

use crate::workload::{Senders, SplitMix};

/// One line of this many changes places with another.
const JITTER_EVERY: usize = 100;

/// Appends what a host sends between the middle of a minute and that of the next; returns how many lines that is.
pub(crate) fn request(senders: &Senders, host: u32, minute: u32, out: &mut Vec<u8>) -> u64 {
    let mut lines = Vec::new();
    let bodies = [minute, minute + 1].map(|minute| {
        let mut body = Vec::new();
        senders.body(host, minute, &mut body);
        body
    });
    for (body, minute) in bodies.iter().zip(minute..) {
        let of_minute: Vec<&[u8]> = body.split_inclusive(|&byte| byte == b'\n').collect();
        let count = u32::try_from(of_minute.len()).expect("a host has some hundred series");
        let cut = SplitMix((u64::from(host) << 32) | u64::from(minute)).below(count) as usize;
        lines.extend_from_slice(if lines.is_empty() { &of_minute[cut..] } else { &of_minute[..cut] });
    }
    let mut random = SplitMix((u64::from(minute) << 32) | u64::from(host));
    let count = u32::try_from(lines.len()).expect("a host has some hundred series");
    for _ in 0..lines.len() / JITTER_EVERY {
        lines.swap(random.below(count) as usize, random.below(count) as usize);
    }
    for line in &lines {
        out.extend_from_slice(line);
        let last_digit = out.len() - 2;
        if random.below(2) == 1 && out[last_digit] < b'9' {
            out[last_digit] += 1;
        }
    }
    lines.len() as u64
}
