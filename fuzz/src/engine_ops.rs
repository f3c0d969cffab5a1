//! What happens to a store, in the order of the bytes.

use arbitrary::{Arbitrary, Unstructured};
use kymo_engine::sim::{Script, run};

/// The bytes are a script of the engine's simulator: writes, background work, faults of the disk, crashes.
///
/// All oracles of the simulator hold, to the quiet end that every script has.
///
/// # Panics
///
/// Where one of them does not hold.
pub fn engine_ops(data: &[u8]) {
    let Ok(script) = Script::arbitrary_take_rest(Unstructured::new(data)) else { return };
    if let Err(failure) = run(&script) {
        panic!("{failure}\n{script:?}");
    }
}
