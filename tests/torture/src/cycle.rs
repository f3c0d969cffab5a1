//! The life of a server that ends before its time, which most rigs repeat.

use crate::Failure;
use crate::fleet::{Counter, Fleet, Ticks};
use crate::random::Random;
use crate::server::{Server, Setup};
use crate::tally::Tally;
use std::thread;
use std::time::Duration;

/// Lets one start of four be killed up to so many microseconds after it has begun; whether that was done.
pub(crate) fn sometimes_dies_young(setup: &Setup, micros: u64, random: &mut Random) -> Result<bool, Failure> {
    if !random.once_in(4) {
        return Ok(false);
    }
    let mut starting = setup.spawn()?;
    thread::sleep(Duration::from_micros(random.below(micros)));
    starting.kill();
    Ok(true)
}

/// A start, everything read back, and load until the server is killed.
pub(crate) fn live(
    setup: &Setup,
    fleet: &Fleet,
    ticks: &Counter,
    random: &mut Random,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let (mut server, took) = setup.serve()?;
    tally.opens.push(took);
    fleet.audit_and_settle(&server, ticks, tally)?;
    dies_under_load(&mut server, fleet, ticks, random, tally)
}

/// Load, and SIGKILL at a random moment.
pub(crate) fn dies_under_load(
    server: &mut Server,
    fleet: &Fleet,
    ticks: &dyn Ticks,
    random: &mut Random,
    tally: &mut Tally,
) -> Result<(), Failure> {
    fleet.load(server.address(), ticks, |load| {
        load.random_moment(random, &server.client(), tally)?;
        load.expect_end();
        server.kill();
        Ok(())
    })
}

/// A last start and a clean end.
pub(crate) fn ends(setup: &Setup, fleet: &Fleet, ticks: &Counter, tally: &mut Tally) -> Result<(), Failure> {
    let (server, _) = setup.serve()?;
    fleet.audit_and_settle(&server, ticks, tally)?;
    server.stop()?;
    tally.acknowledged = fleet.acknowledged();
    Ok(())
}
