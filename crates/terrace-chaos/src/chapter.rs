//! One fault under load: what was recorded meanwhile, held against what is promised.
//!
//! 1. A chapter lasts until the fleet has healed: 99 of 100 reads of half a second are fresh again. One that does not heal
//!    in `HEALED_WITHIN` has failed, whatever was read.
//! 2. Every read is held against all changes since the fleet was started, by `terrace_testkit::history`.

use crate::dice::Dice;
use crate::nemesis::Fault;
use crate::world::{Answer, Change, Effect, Failure, How, KeyId, Read, Source, World};
use anyhow::Result;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;
use terrace_core::Moment;
use terrace_testkit::history::{self, Forgetting, Operation, Outcome, Promises, What};
use terrace_testkit::wait::pause;

/// When a fleet that is not ill-treated any more has to be itself again.
const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// Reads of so long are looked at.
const WINDOW: Duration = Duration::from_millis(500);
/// No call may take longer: five seconds of a service, ten of which it may be halted before, and what a loaded machine adds.
const CALL_MAX: Duration = Duration::from_secs(25);

/// What came of a fault.
#[derive(Debug)]
pub struct Chapter {
    /// Which.
    pub fault: Fault,
    /// Whom it met, and what it did, in words.
    pub met: String,
    /// How long it lasted.
    pub lasted: Duration,
    /// From its end until 99 of 100 reads were fresh again; `None` if that never came.
    pub healed_after: Option<Duration>,
    /// Answers with a value that counts as fresh, by where it came from.
    pub fresh: BTreeMap<Source, u64>,
    /// Answers with a value that is marked as stale.
    pub stale: u64,
    /// Answers without a value.
    pub nothing: u64,
    /// Reads that failed, and why.
    pub failed: BTreeMap<Failure, u64>,
    /// Changes that hold everywhere, on their node so far, and of which nobody knows.
    pub changes: [u64; 3],
    /// Changes by how they were made.
    pub by_way: BTreeMap<How, u64>,
    /// Values that proved nothing, because their `PUT` was not acknowledged as applied.
    pub loose: u64,
    /// The longest time that a change was applied already that a fresh read knew nothing of.
    pub oldest_fresh: Duration,
    /// How old it may be.
    pub lease: Duration,
    /// Loads that were seen, and the most of one key.
    pub loads: (u64, u64),
    /// Keys that were loaded.
    pub keys_loaded: u64,
    /// Promises that were broken, each with the two calls.
    pub violations: Vec<String>,
}

impl Chapter {
    /// Reads that were answered.
    pub fn reads(&self) -> u64 {
        self.fresh.values().sum::<u64>() + self.stale + self.nothing + self.failed.values().sum::<u64>()
    }

    /// Whether all promises were kept, and the fleet has healed.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.healed_after.is_some()
    }
}

/// All changes so far, and when some of them may have been forgotten, for the chapters to come.
///
/// What a primary acknowledged that was being replaced is not held against reads: its replica may not have been told. Nothing
/// else is excused.
#[derive(Debug, Default)]
pub struct Past {
    changes: Vec<Change>,
    replaced: Vec<(Moment, Moment)>,
}

/// So long before a primary was replaced it may have acknowledged what its replica was not told.
const UNREPLICATED: Duration = Duration::from_secs(1);
/// So long after a primary was replaced nodes may still ask it.
const LEFT_WITHIN: Duration = Duration::from_secs(2);

/// Inflicts a fault under the load that is going on, and tells what came of it.
///
/// # Errors
/// If a process cannot be started again, or the server cannot be asked.
///
/// # Cancel safety
/// Dropping the future may leave the fault in force.
pub async fn write(
    world: &World,
    past: &mut Past,
    fault: Fault,
    hold: Duration,
    dice: &mut Dice,
) -> Result<Chapter> {
    let known = past.changes.len();
    let began = world.clock.precise();
    let met = fault.inflict(world, dice, hold).await?;
    let ended = world.clock.precise();
    if met.forgets {
        let from = began.as_nanos().saturating_sub(nanos(UNREPLICATED));
        past.replaced.push((Moment::from_nanos(from), ended.plus(LEFT_WITHIN)));
    }
    let reads = heal(world, ended).await;
    past.changes.extend(world.take_changes());
    let mut chapter = Chapter {
        fault,
        met: met.words,
        lasted: ended.since(began),
        healed_after: healed_at(&reads, ended).map(|at| at.since(ended)),
        fresh: BTreeMap::new(),
        stale: 0,
        nothing: 0,
        failed: BTreeMap::new(),
        changes: [0; 3],
        by_way: BTreeMap::new(),
        loose: 0,
        oldest_fresh: Duration::ZERO,
        lease: fault.allowed(world.fleet.settings.lease),
        loads: (0, 0),
        keys_loaded: 0,
        violations: Vec::new(),
    };
    chapter.count(&reads, &past.changes[known..]);
    chapter.check(world, &reads, past);
    Ok(chapter)
}

/// Waits until the fleet has healed, for as long as it may take. Returns what was read since the last chapter.
async fn heal(world: &World, ended: Moment) -> Vec<Read> {
    let mut reads = Vec::new();
    loop {
        pause(WINDOW / 4).await;
        reads.extend(world.take_reads());
        let now = world.clock.precise();
        let late = now.since(ended) > HEALED_WITHIN;
        let since = Moment::from_nanos(now.as_nanos().saturating_sub(nanos(WINDOW))).max(ended);
        // A bad moment just now would be the last one that was seen, with nothing good after it.
        let has_healed = || is_healthy(&reads, since) && healed_at(&reads, ended).is_some();
        if late || (now.since(ended) > WINDOW * 2 && has_healed()) {
            return reads;
        }
    }
}

fn is_healthy(reads: &[Read], since: Moment) -> bool {
    let (mut all, mut good) = (0_u64, 0_u64);
    for read in reads.iter().filter(|read| read.began >= since) {
        all += 1;
        good += u64::from(is_fresh(read));
    }
    all > 0 && good * 100 >= all * 99
}

/// The beginning of the first window after which no window has fewer than 99 fresh reads of 100.
fn healed_at(reads: &[Read], ended: Moment) -> Option<Moment> {
    const STEP: Duration = Duration::from_millis(50);
    let mut steps: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for read in reads.iter().filter(|read| read.began >= ended) {
        let step = read.began.since(ended).as_nanos() / STEP.as_nanos();
        let (all, good) = steps.entry(u64::try_from(step).unwrap_or(u64::MAX)).or_default();
        *all += 1;
        *good += u64::from(is_fresh(read));
    }
    let is_good = |&(all, good): &(u64, u64)| good * 100 >= all * 99;
    let last_bad = steps.iter().rev().find(|(_, counts)| !is_good(counts)).map(|(step, _)| *step);
    let after = last_bad.map_or(0, |step| step + 1);
    steps.range(after..).next()?;
    Some(ended.plus(STEP.saturating_mul(u32::try_from(after).unwrap_or(u32::MAX))))
}

fn is_fresh(read: &Read) -> bool {
    match read.answer {
        Answer::Value { source, .. } => source != Source::Stale,
        Answer::Nothing => true,
        Answer::Failed(_) => false,
    }
}

impl Chapter {
    fn count(&mut self, reads: &[Read], changes: &[Change]) {
        let mut marks: HashMap<KeyId, HashSet<i64>> = HashMap::new();
        for read in reads {
            match read.answer {
                Answer::Value { source: Source::Stale, .. } => self.stale += 1,
                Answer::Value { source, mark, .. } => {
                    *self.fresh.entry(source).or_default() += 1;
                    if mark != 0 && source == Source::Origin {
                        marks.entry(read.key).or_default().insert(mark);
                    }
                }
                Answer::Nothing => self.nothing += 1,
                Answer::Failed(failure) => *self.failed.entry(failure).or_default() += 1,
            }
        }
        let loads = marks.values().map(|marks| marks.len() as u64);
        self.loads = (loads.clone().sum(), loads.max().unwrap_or(0));
        self.keys_loaded = marks.len() as u64;
        for change in changes {
            self.changes[change.effect as usize] += 1;
            *self.by_way.entry(change.how).or_default() += 1;
        }
    }

    fn check(&mut self, world: &World, reads: &[Read], past: &Past) {
        let mut operations: Vec<Operation> =
            past.changes.iter().map(|change| past.operation(change)).collect();
        for read in reads {
            if matches!(read.answer, Answer::Value { number, .. } if world.is_loose(read.key, number)) {
                self.loose += 1;
            } else {
                operations.push(of_read(read));
            }
        }
        let promises = Promises { forgettings: past.forgettings(), ..Promises::within(self.lease, CALL_MAX) };
        let report = history::check(&operations, &promises);
        self.oldest_fresh = report.figures.oldest_fresh;
        self.violations = report.violations.iter().map(ToString::to_string).collect();
    }
}

impl Past {
    fn operation(&self, change: &Change) -> Operation {
        let may_be_lost = self.replaced.iter().any(|(from, to)| (*from..=*to).contains(&change.ended));
        let outcome = match change.effect {
            Effect::Applied if !may_be_lost => Outcome::Applied,
            Effect::Queued if !may_be_lost => Outcome::Queued,
            _ => Outcome::Unknown,
        };
        Operation {
            node: change.node.into(),
            key: change.key.0.into(),
            begun: change.began.as_nanos(),
            ended: change.ended.as_nanos(),
            what: What::Change { version: change.number, outcome },
        }
    }

    /// While a primary is replaced, what was read before says nothing of what is read next.
    fn forgettings(&self) -> Vec<Forgetting> {
        let while_ = |(from, to): &(Moment, Moment)| Forgetting {
            from: from.as_nanos(),
            at: from.as_nanos(),
            until: to.as_nanos(),
        };
        self.replaced.iter().map(while_).collect()
    }
}

fn of_read(read: &Read) -> Operation {
    let key = u64::from(read.key.0);
    let value = |number, version, source| history::Read {
        key,
        version: number,
        source,
        is_anchored: version != 0,
        has_asked: false,
    };
    let answer = match read.answer {
        Answer::Value { number, version, source: Source::Stale, .. } => {
            history::Answer::Stale(value(number, version, None))
        }
        Answer::Value { number, version, source, .. } => {
            let source = match source {
                Source::L1 => history::Source::L1,
                Source::L2 => history::Source::L2,
                Source::Origin | Source::Stale => history::Source::Origin,
            };
            history::Answer::Fresh(value(number, version, Some(source)))
        }
        Answer::Nothing => history::Answer::Nothing,
        // A value of another key, or none that can be read: K8 will say so.
        Answer::Failed(Failure::Wrong) => {
            history::Answer::Fresh(history::Read { key: u64::MAX, ..value(0, 0, None) })
        }
        Answer::Failed(_) => history::Answer::Failed,
    };
    Operation {
        node: read.node.into(),
        key,
        begun: read.began.as_nanos(),
        ended: read.ended.as_nanos(),
        what: What::Read(answer),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::NodeId;

    fn read(began: u64, source: Source) -> Read {
        let began = Moment::from_nanos(began * 1_000_000);
        let answer = Answer::Value { number: 1, version: 1, mark: 0, source };
        Read { key: KeyId(1), node: NodeId { index: 0, life: 1 }, began, ended: began, answer }
    }

    #[test]
    fn a_fleet_has_healed_after_its_last_bad_moment() {
        let ended = Moment::from_nanos(0);
        let all = |last_stale: u64| -> Vec<Read> {
            (0..1000).map(|at| read(at, if at == last_stale { Source::Stale } else { Source::L1 })).collect()
        };
        assert_eq!(healed_at(&all(2000), ended), Some(ended));
        assert_eq!(healed_at(&all(120), ended), Some(Moment::from_nanos(150_000_000)));
        assert_eq!(healed_at(&all(999), ended), None, "nothing good was seen after it");
        assert_eq!(healed_at(&[], ended), None);
    }
}
