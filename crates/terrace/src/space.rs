//! What a cache is made of inside: the parts all its namespaces share, and the parts each has of its own.

use crate::bulkhead::{Bulkhead, Bulkheads};
use crate::coherence::bans::Bans;
use crate::coherence::generations::Generations;
use crate::coherence::pending::Pending;
use crate::coherence::questions::Questions;
use crate::coherence::recent::Recent;
use crate::coherence::tickets::Tickets;
use crate::coherence::trust::{Reading, Trust};
use crate::entry::{Absent, Resident, Tagged};
use crate::erased::{Erased, ValueFormat};
use crate::error::{Error, ErrorKind};
use crate::events::Hub;
use crate::flight::Flights;
use crate::hot::HotKeys;
use crate::l1::{Copy, KeyRef, L1, UNANCHORED_TTL_MAX};
use crate::refresh::Refreshes;
use crate::resilience::{Agreement, L2};
use crate::runtime::{Leave, Runtime, Turn, Turns};
use crate::sizes::Lately;
use crate::stale::Cooling;
use crate::staleness::{StalenessBudget, Watch};
use crate::telemetry::{BusCounters, Event, SpaceCounters, Telemetry};
use crate::terms::{Lasting, Terms};
use crate::waiting::Waiting;
use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};
use terrace_core::codec::CodecId;
use terrace_core::envelope::{Compression, Dictionary, Envelope, EnvelopeError, Limits, Sealed, TagStamp};
use terrace_core::version::LocalVersions;
use terrace_core::{Chance, Clock, CodecError, Key, KeyName, Namespace, Tag, Ttl, Version};

/// What all namespaces of a cache share.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) chance: Chance,
    pub(crate) l1: Option<L1>,
    pub(crate) l2: Option<L2>,
    pub(crate) tickets: Arc<Tickets>,
    pub(crate) runtime: Runtime,
    pub(crate) telemetry: Telemetry,
    /// What L1 was asked for in the last minutes.
    pub(crate) lately: Lately,
    pub(crate) versions: LocalVersions,
    pub(crate) default_ttl: Ttl,
    pub(crate) staleness_budget: StalenessBudget,
    pub(crate) cleanup_interval: Duration,
    /// Keys that are counted, of each namespace.
    pub(crate) hot_keys_max: usize,
    pub(crate) spaces: RwLock<HashMap<Namespace, Arc<Space>>>,
    pub(crate) cleaning: Turns,
    #[cfg(feature = "journal")]
    pub(crate) journal: Option<crate::behind::Journal>,
    /// A number that no other cache has: what is in the parts of its L1 is in those of no other. Drawn when it is first asked for,
    /// so that histories of one seed do not depend on it.
    pub(crate) life: std::sync::OnceLock<u64>,
    /// How long this node's last message to itself took to come back.
    pub(crate) bus_lag_nanos: AtomicU64,
    /// What was heard of the bus.
    pub(crate) bus_counters: BusCounters,
}

/// How an entry came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Made {
    /// Somebody stored it.
    Put,
    /// It was loaded in so many microseconds.
    Loaded { micros: u32 },
    /// The origin was found not to have it.
    Absent,
}

/// A value in bytes, and the codec that wrote it.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub(crate) codec: CodecId,
    pub(crate) bytes: Bytes,
}

/// The rules of one namespace. Others can take their place while it is open, all at once; who has begun by some may end by others.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Those of entries whose call says nothing else.
    pub(crate) terms: Terms,
    pub(crate) compression: Compression,
    pub(crate) dictionary: Option<Dictionary>,
    pub(crate) value_bytes_max: u64,
    pub(crate) load_timeout: Duration,
    /// How much of what is returned may be stale.
    pub(crate) staleness_budget: StalenessBudget,
    /// Loads of this namespace at a time.
    pub(crate) loads_max: Option<usize>,
    /// How long one more waits.
    pub(crate) loads_wait_max: Option<Duration>,
    /// What it shares with other namespaces.
    pub(crate) bulkhead: Option<Bulkhead>,
    /// What bounds its loads, of the three above.
    pub(crate) bulkheads: Bulkheads,
    pub(crate) suspect: SuspectPolicy,
    /// Whether what L1 cannot answer fails while L2 cannot be asked.
    pub(crate) fails_closed: bool,
}

/// What to do with a copy in L1 that cannot be proven fresh: this node may not have heard of a change, because messages are
/// lost or late, or it was paused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum SuspectPolicy {
    /// Ask L2, for 50 ms at most. If it does not answer, return the copy, marked as stale.
    #[default]
    Validate,
    /// Return the copy, marked as stale.
    Stale,
    /// Ask L2. If that cannot be asked, fail with [`ErrorKind::Unproven`].
    Error,
}

/// What one namespace has of its own.
pub(crate) struct Space {
    pub(crate) id: u32,
    pub(crate) namespace: Namespace,
    pub(crate) format: Box<dyn ValueFormat>,
    pub(crate) uses_l1: bool,
    pub(crate) uses_l2: bool,
    /// Those that hold now: see [`crate::KeyspaceBuilder::replace`].
    pub(crate) rules: ArcSwap<Rules>,
    pub(crate) flights: Flights,
    pub(crate) pending: Pending,
    pub(crate) recent: Recent,
    pub(crate) events: Arc<Hub>,
    pub(crate) refreshes: Refreshes,
    pub(crate) counters: Arc<SpaceCounters>,
    pub(crate) agreement: Agreement,
    pub(crate) deliveries: Turns,
    pub(crate) trust: Trust,
    pub(crate) bans: Bans,
    pub(crate) questions: Questions,
    pub(crate) generations: Generations,
    pub(crate) retiring: Turns,
    pub(crate) chores: Turns,
    pub(crate) audits: Turns,
    /// How many delayed invalidations wait in this process.
    pub(crate) delayed_here: Arc<AtomicUsize>,
    /// Who removes what sweeps have killed, one at a time.
    pub(crate) reaping: tokio::sync::Semaphore,
    pub(crate) waiting: Waiting,
    pub(crate) cooling: Cooling,
    /// Whose turn it is to change a key at the origin.
    pub(crate) order: crate::write::order::Order,
    /// Which values that were stored through the origin may not stand.
    pub(crate) watching: crate::write::watch::Watching,
    #[cfg(feature = "journal")]
    pub(crate) behind: std::sync::OnceLock<crate::write::behind::Behind>,
    pub(crate) hot: HotKeys,
    pub(crate) watch: Watch,
    /// Whether copies may be in L1 that are no plain answers; once set, it stays.
    pub(crate) lingers: AtomicBool,
}

impl Space {
    /// The rules that hold now.
    pub(crate) fn rules(&self) -> arc_swap::Guard<Arc<Rules>> {
        self.rules.load()
    }

    /// The terms of entries whose call says nothing else, as they are now.
    pub(crate) fn terms(&self) -> Terms {
        self.rules().terms
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.events.close();
    }
}

/// One namespace of one cache: what every path of the library works on.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) shared: Arc<Shared>,
    pub(crate) space: Arc<Space>,
}

impl View {
    /// L1, if this namespace uses it.
    #[inline]
    pub(crate) fn l1(&self) -> Option<&L1> {
        if self.space.uses_l1 { self.shared.l1.as_ref() } else { None }
    }

    /// L1, if this namespace uses it and what it holds now counts as fresh, and the clock's reading that says so. To be asked
    /// before each lookup.
    #[inline]
    pub(crate) fn l1_trusted(&self) -> Option<(&L1, Reading)> {
        let l1 = self.l1()?;
        Some((l1, self.space.trust.holding(&self.shared.clock)?))
    }

    /// L2, if this namespace uses it.
    pub(crate) fn l2(&self) -> Option<&L2> {
        if self.space.uses_l2 { self.shared.l2.as_ref() } else { None }
    }

    #[inline]
    pub(crate) fn name<'a>(&self, name: KeyName<'a>) -> KeyRef<'a> {
        KeyRef { space: self.space.id, name }
    }

    pub(crate) fn name_of<'a>(&self, text: &'a str) -> KeyRef<'a> {
        KeyRef::of(self.space.id, text)
    }

    /// Leave to load or to change something, until the cache is closed. Sees to the background tasks.
    pub(crate) fn begin(&self) -> Result<Leave, Error> {
        let leave = self.shared.runtime.enter()?;
        self.shared.start_cleaning();
        self.see_to_l2();
        Ok(leave)
    }

    /// Sees to the background tasks that a namespace in L2 has.
    pub(crate) fn see_to_l2(&self) {
        self.see_to_chores();
        self.see_to_audits();
    }

    /// Makes a change: in a task of its own if it asks L2, so that it goes on when its caller goes away.
    pub(crate) async fn carry_out<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let leave = self.begin()?;
        if self.l2().is_none() {
            return change.await;
        }
        self.shared.runtime.run(leave, change).await?
    }

    /// A new entry, written now.
    pub(crate) fn entry(&self, value: Erased, version: Version, lasting: Lasting, tags: &[Tag]) -> Resident {
        Resident {
            created_ms: millis(self.shared.clock.wall()),
            tags: Tagged::of(tags.to_vec(), Vec::new()),
            ..Resident::new(value, version, self.shared.clock.now(), lasting)
        }
    }

    /// What L1 counts a value as, besides its key and record. `encoded` is the length of its encoding, if known.
    pub(crate) fn weigh(&self, value: &Erased, encoded: Option<usize>) -> u64 {
        if value.is::<Absent>() {
            return 0;
        }
        let is_exact = self.shared.l1.as_ref().is_some_and(|l1| l1.is_bounded_by_bytes);
        self.space.format.weigh(value, encoded, is_exact)
    }

    /// The L1 copy of an entry.
    pub(crate) fn copy(
        &self,
        resident: Resident,
        weight_bytes: u64,
        is_anchored: bool,
        terms: &Terms,
    ) -> Copy {
        let longest = self.shared.l1.as_ref().map_or(Ttl::Never, |l1| l1.ttl_max(self.l2().is_some()));
        let ttl = terms.l1_ttl.min(longest);
        let ttl = if is_anchored { ttl } else { ttl.min(Ttl::After(UNANCHORED_TTL_MAX)) };
        let ahead = self.ahead(&resident, terms);
        if ahead.is_some() || resident.stale_until > resident.fresh_until || resident.is_absent() {
            // Before the copy is there: who finds it looks at this after it.
            self.space.lingers.store(true, Ordering::Release);
        }
        Copy { resident, weight_bytes, ttl, ahead }
    }

    /// The value's bytes, if they are not more than the namespace allows.
    pub(crate) fn encode(&self, value: &Erased) -> Result<Payload, Error> {
        if value.is::<Absent>() {
            return Ok(Payload { codec: self.space.format.codec(), bytes: Bytes::new() });
        }
        let (codec, bytes) = (self.space.format.codec_of(value), self.space.format.encode(value)?);
        self.check_size(bytes.len() as u64)?;
        Ok(Payload { codec, bytes })
    }

    pub(crate) fn check_size(&self, bytes: u64) -> Result<(), Error> {
        let bytes_max = self.space.rules().value_bytes_max;
        if bytes > bytes_max {
            return Err(ErrorKind::ValueTooLarge {
                keyspace: self.space.namespace.to_string(),
                bytes,
                bytes_max,
            }
            .into());
        }
        Ok(())
    }

    /// The envelope of an entry with this encoding, for L2.
    pub(crate) fn seal(
        &self,
        key: &Key,
        made: Made,
        Payload { codec, bytes }: Payload,
        lasting: Lasting,
        tags: Vec<TagStamp>,
    ) -> Result<Sealed, Error> {
        let envelope = Envelope {
            version: Version::ZERO,
            created_ms: millis(self.shared.clock.wall()),
            ttl: lasting.ttl,
            grace: lasting.grace,
            load_time: match made {
                Made::Loaded { micros } => Duration::from_micros(u64::from(micros)),
                Made::Put | Made::Absent => Duration::ZERO,
            },
            is_absent: matches!(made, Made::Absent),
            codec,
            tags,
            payload: bytes,
        };
        let rules = self.space.rules();
        let (compression, dictionary) = (rules.compression, rules.dictionary.as_ref());
        let sealed = envelope
            .seal_with(&self.space.namespace, key, compression, dictionary)
            .map_err(|error| CodecError::Encode { codec: "envelope", reason: error.to_string() })?;
        self.space.counters.add(Event::PayloadBytes, envelope.payload.len() as u64);
        self.space.counters.add(Event::PayloadBytesKept, sealed.payload_bytes() as u64);
        Ok(sealed)
    }

    /// Reads the bytes that L2 has of a key.
    pub(crate) fn unseal(&self, key: &Key, bytes: &Bytes) -> Result<Envelope, EnvelopeError> {
        let rules = self.space.rules();
        let payload_bytes_max = usize::try_from(rules.value_bytes_max).unwrap_or(usize::MAX);
        let limits = Limits { payload_bytes_max };
        Envelope::open_with(bytes, &self.space.namespace, key, limits, rules.dictionary.as_ref())
    }
}

impl Shared {
    /// Expired copies removed in one go, before other tasks get their turn.
    const CLEANING_STEP: usize = 1024;

    /// Starts the background expiry of L1, unless it runs, as soon as there is a runtime to run it.
    pub(crate) fn start_cleaning(self: &Arc<Self>) {
        if self.l1.is_none() || self.cleaning.are_taken() || !self.runtime.is_available() {
            return;
        }
        if let Some(turn) = self.cleaning.take() {
            let interval = self.cleanup_interval;
            self.runtime.spawn_until_closed(clean(Arc::downgrade(self), interval, turn));
        }
    }
}

/// Removes expired copies every `interval`, until the cache is gone.
async fn clean(shared: Weak<Shared>, interval: Duration, _turn: Turn) {
    loop {
        crate::runtime::sleep(interval).await;
        loop {
            let Some(shared) = shared.upgrade() else { return };
            let more = shared.l1.as_ref().is_some_and(|l1| l1.expire(Shared::CLEANING_STEP));
            if !more {
                shared.mark_traffic();
                break;
            }
            drop(shared);
            tokio::task::yield_now().await;
        }
    }
}

/// Milliseconds since the Unix epoch; zero before it.
pub(crate) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
