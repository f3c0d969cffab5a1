//! Manners of threads whose work nobody waits for.

use rustix::process::{nice, setpriority_process};

/// The nice value of such threads: far enough behind that whoever serves a request goes first, and near enough that they
/// get on when all cores are busy.
const NICE: i32 = 10;

/// Puts the calling thread behind those that serve requests, as far as the system lets it.
pub fn step_back() {
    // On Linux this is the thread's own value. Where it is refused the work is done all the same.
    if let Ok(now) = nice(0)
        && now < NICE
    {
        setpriority_process(None, NICE).ok();
    }
}
