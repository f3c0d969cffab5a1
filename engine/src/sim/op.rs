//! What can happen to a store.

use crate::disk::sim::Rng;
use arbitrary::{Arbitrary, Unstructured};

/// Operations of a script that a fuzzer makes, at most: enough for a few lives.
const OPS: usize = 60;

/// What the draw of faults in recoveries begins with: a number with which seeds that have found something have none.
const RECOVERIES: u64 = 0x6661_756c;

/// Where a sample lies in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary)]
pub enum When {
    /// In the present slot.
    Now,
    /// That many slots ago, as far as the late window reaches.
    Back(u8),
    /// At that part of the late window, in 65,536ths.
    Late(u16),
    /// A few slots ahead.
    Ahead(u8),
    /// Before the late window.
    TooLate,
    /// Behind the skew.
    TooFar,
}

/// A line of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary)]
pub enum Line {
    /// A sample.
    Sample {
        /// The number of its series, taken modulo their count.
        series: u8,
        /// Its time.
        when: When,
        /// The kind of its value: constant, exact as `f32`, neither, at the edge of the range.
        value: u8,
    },
    /// A line that is refused, of this kind.
    Bad(u8),
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq, Arbitrary)]
pub enum Op {
    /// A body arrives.
    Write(#[arbitrary(with = lines)] Vec<Line>),
    /// The last body arrives again.
    WriteAgain,
    /// All that waits is committed.
    Commit,
    /// One frame is committed.
    CommitOne,
    /// The next segment is prepared.
    Prepare,
    /// So many pieces of the background work are done.
    Compact {
        /// Whether a snapshot is taken whatever the length of the log.
        now: bool,
        /// Pieces.
        steps: u8,
    },
    /// What is older than the retention is dropped.
    Retain,
    /// So many pieces of the archiving are done.
    Archive {
        /// Pieces.
        steps: u8,
        /// Whether what is written aside rots before it is read back.
        rots: bool,
    },
    /// A selector is freed.
    Free {
        /// Which.
        selector: u8,
        /// Up to that many minutes ago.
        age: u16,
    },
    /// A series is read.
    Query {
        /// Which.
        series: u8,
        /// Begin of the range: so many slots ago.
        back: u16,
        /// Its length in slots.
        len: u16,
    },
    /// A series is read while rows move from the head to a snapshot.
    QueryAmidst {
        /// Which.
        series: u8,
    },
    /// The interval of the durability passes, and a step syncs.
    Sync,
    /// Minutes pass on both clocks.
    Pass(u16),
    /// The wall clock jumps by hours, to and fro.
    Jump(i16),
    /// A clean end and a start.
    Restart,
    /// A crash now.
    Crash {
        /// Whether the power is cut.
        power: bool,
    },
    /// A crash at one of the next operations of the disk.
    CrashAt {
        /// Which.
        nth: u8,
        /// Whether the power is cut.
        power: bool,
    },
    /// A crash now, and another one at an operation of the recovery.
    CrashTwice {
        /// Whether the power is cut first.
        power: bool,
        /// The operation of the recovery.
        nth: u8,
        /// Whether the power is cut then.
        power_then: bool,
    },
    /// The disk is full but for so many KiB.
    Fill(u8),
    /// There is space again.
    Empty,
    /// Operations of the disk fail.
    Fail {
        /// Which kind of them.
        target: u8,
        /// Which one.
        nth: u8,
        /// How.
        errno: u8,
        /// Whether all later ones fail, too.
        is_sticky: bool,
    },
    /// A copy of the disk rots; it is opened, read and, where that is refused, salvaged.
    Damage {
        /// Which file.
        file: u8,
        /// Where, in 65,536ths of what is used of it.
        at: u16,
        /// How.
        how: u8,
    },
    /// All is read.
    Check,
    /// A crash now, and operations of the recovery or of the life after it fail.
    CrashThenFail {
        /// Whether the power is cut.
        power: bool,
        /// Which kind of them.
        target: u8,
        /// Which one.
        nth: u8,
        /// How.
        errno: u8,
        /// Whether all later ones fail, too.
        is_sticky: bool,
    },
}

/// What a run begins with: which faults are on, and the options of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Setup {
    /// Whether acknowledgements come before the sync.
    pub is_interval: bool,
    /// Whether there is a retention.
    pub has_retention: bool,
    /// Whether what is older than that is archived; then nothing is freed.
    pub has_archive: bool,
    /// Whether the late window is two hours and not a day.
    pub has_short_window: bool,
    /// Whether writes are short or interrupted now and then.
    pub has_short_writes: bool,
    /// Whether the writes of dead processes may land.
    pub has_late_writes: bool,
    /// Hosts, taken modulo four, and one.
    pub hosts: u8,
}

/// A run: what it begins with, and what happens then.
#[derive(Clone, Debug, PartialEq, Eq, Arbitrary)]
pub struct Script {
    /// The chance of the disk.
    pub seed: u64,
    /// What it begins with.
    pub setup: Setup,
    /// What happens.
    #[arbitrary(with = ops)]
    pub ops: Vec<Op>,
}

/// As many operations as there are bytes for: a `Vec` of its own would end at every second one.
fn ops(u: &mut Unstructured<'_>) -> arbitrary::Result<Vec<Op>> {
    let mut ops = Vec::new();
    while !u.is_empty() && ops.len() < OPS {
        ops.push(u.arbitrary()?);
    }
    Ok(ops)
}

/// A body of one to eight lines, as a byte says.
fn lines(u: &mut Unstructured<'_>) -> arbitrary::Result<Vec<Line>> {
    (0..=u8::arbitrary(u)? % 8).map(|_| u.arbitrary()).collect()
}

/// Which classes of events a seed has, and how often.
struct Swarm {
    crash: usize,
    recrash: usize,
    full: usize,
    fail: usize,
    damage: usize,
    free: usize,
    retain: usize,
    jump: usize,
    archive: usize,
    compact: usize,
    bad: usize,
    big: bool,
}

impl Swarm {
    fn draw(rng: &mut Rng, setup: Setup) -> Self {
        let mut rate = |rates: &[usize]| rates[rng.below(rates.len())];
        Self {
            crash: rate(&[4, 8, 14]),
            recrash: rate(&[2, 6, 12]),
            full: rate(&[0, 0, 2]),
            fail: rate(&[0, 2, 4]),
            damage: rate(&[0, 0, 1, 2]),
            free: rate(&[0, 1, 3]),
            retain: if setup.has_archive { 3 } else { rate(&[0, 3]) },
            archive: if setup.has_archive { 6 } else { 0 },
            jump: rate(&[0, 0, 2]),
            compact: rate(&[4, 10, 16]),
            bad: rate(&[0, 1, 4]),
            big: rate(&[0, 0, 0, 1]) == 1,
        }
    }
}

impl Script {
    /// The script of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x6b79_6d6f);
        let rng = &mut rng;
        let setup = Setup {
            is_interval: rng.below(4) == 0,
            has_retention: rng.coin(),
            has_archive: false,
            has_short_window: rng.coin(),
            has_short_writes: rng.below(4) == 0,
            has_late_writes: rng.below(3) == 0,
            hosts: rng.byte(),
        };
        // An archive is slow: few have one.
        let has_archive = setup.has_retention && rng.below(8) == 0;
        let setup = Setup { has_archive, ..setup };
        let swarm = Swarm::draw(rng, setup);
        let mut ops: Vec<Op> = (0..40 + rng.below(120)).map(|_| swarm.op(rng)).collect();
        fail_recoveries(seed, &mut ops);
        Self { seed, setup, ops }
    }
}

/// Lets half of the crashes of every second seed be followed by a fault. A draw of its own leaves the other seeds what
/// they were when they found something.
fn fail_recoveries(seed: u64, ops: &mut [Op]) {
    let mut rng = Rng::new(seed ^ RECOVERIES);
    if rng.coin() {
        return;
    }
    for op in ops {
        if let Op::Crash { power } = *op
            && rng.coin()
        {
            let (target, nth, errno) = (rng.byte(), small(&mut rng, 40), rng.byte());
            *op = Op::CrashThenFail { power, target, nth, errno, is_sticky: rng.below(4) == 0 };
        }
    }
}

fn small(rng: &mut Rng, bound: usize) -> u8 {
    u8::try_from(rng.below(bound)).unwrap_or(u8::MAX)
}

fn wide(rng: &mut Rng, bound: usize) -> u16 {
    u16::try_from(rng.below(bound)).unwrap_or(u16::MAX)
}

/// A number of at most so many bits, of which each count is as likely.
fn any_size(rng: &mut Rng, bits: usize) -> u16 {
    let bound = 2 << rng.below(bits);
    wide(rng, bound)
}

impl Swarm {
    fn line(&self, rng: &mut Rng) -> Line {
        if rng.below(24) < self.bad {
            return Line::Bad(rng.byte());
        }
        let when = match rng.below(16) {
            0..8 => When::Now,
            8..11 => When::Back(small(rng, 30)),
            11..13 => When::Late(wide(rng, 1 << 16)),
            13 => When::Ahead(small(rng, 8)),
            _ if self.bad == 0 => When::Now,
            14 => When::TooLate,
            _ => When::TooFar,
        };
        Line::Sample { series: rng.byte(), when, value: rng.byte() }
    }

    fn op(&self, rng: &mut Rng) -> Op {
        type Make = fn(&Swarm, &mut Rng) -> Op;
        let kinds: [(usize, Make); 22] = [
            (26, |swarm, rng| {
                let lines = if swarm.big && rng.below(6) == 0 { 400 } else { 1 + rng.below(8) };
                Op::Write((0..lines).map(|_| swarm.line(rng)).collect())
            }),
            (1, |_, _| Op::WriteAgain),
            (14, |_, _| Op::Commit),
            (4, |_, _| Op::CommitOne),
            (5, |_, _| Op::Prepare),
            (self.compact, |_, rng| Op::Compact { now: rng.below(3) == 0, steps: 1 << rng.below(6) }),
            (self.retain, |_, _| Op::Retain),
            (self.archive, |_, rng| Op::Archive { steps: 1 << rng.below(6), rots: rng.below(6) == 0 }),
            (self.free, |_, rng| Op::Free { selector: rng.byte(), age: any_size(rng, 15) }),
            (2, |_, rng| Op::Query { series: rng.byte(), back: wide(rng, 600), len: wide(rng, 600) }),
            (2, |_, rng| Op::QueryAmidst { series: rng.byte() }),
            (2, |_, _| Op::Sync),
            (6, |_, rng| Op::Pass(any_size(rng, 11))),
            (self.jump, |_, rng| {
                let hours = i16::try_from(1 << rng.below(15)).unwrap_or(1);
                Op::Jump(if rng.coin() { hours } else { -hours })
            }),
            (2, |_, _| Op::Restart),
            (self.crash, |_, rng| Op::Crash { power: rng.below(3) > 0 }),
            (self.crash, |_, rng| Op::CrashAt { nth: small(rng, 40), power: rng.below(3) > 0 }),
            (self.recrash, |_, rng| Op::CrashTwice {
                power: rng.below(3) > 0,
                nth: small(rng, 40),
                power_then: rng.below(3) > 0,
            }),
            (self.full, |_, rng| if rng.coin() { Op::Fill(small(rng, 160)) } else { Op::Empty }),
            (self.fail, |_, rng| Op::Fail {
                target: rng.byte(),
                nth: small(rng, 24),
                errno: rng.byte(),
                is_sticky: rng.below(4) == 0,
            }),
            (self.damage, |_, rng| Op::Damage { file: rng.byte(), at: wide(rng, 1 << 16), how: rng.byte() }),
            (2, |_, _| Op::Check),
        ];
        let mut at = rng.below(kinds.iter().map(|(weight, _)| weight).sum());
        for (weight, make) in kinds {
            if at < weight {
                return make(self, rng);
            }
            at -= weight;
        }
        Op::Check
    }
}
