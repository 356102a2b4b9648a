//! What does each change do on the server, atomically?
//!
//! The sources are static: everything that varies reaches them by `KEYS` and `ARGV`. Each begins with the parts it
//! shares, so that there is one owner of the counter and of the lease's text. They are loaded when a connection is
//! opened, and again when the server has forgotten them.
//!
//! 1. Everything a script touches is in one partition, so in one slot of a Cluster. A beat, and the record of a
//!    namespace's settings, is one key alone.
//! 2. What the server may refuse for want of memory it refuses before the script has done anything. Invalidations it
//!    never refuses for that: they begin with a command that frees memory, after which a script may go on.
//! 3. Every number that a change gets is logged and published in the same script; those of leases never are.
//! 4. In a Cluster the same sources publish on sharded channels, which stay with their slots: one word is another one.
//! 5. What may put an older value in a newer one's place has a deadline by the server's clock, and does nothing after it.
//!    That is `set`, and `compare` as well: `fill` needs a lease that every change removes, and all else removes or raises a number.
//! 6. A beat writes, so that only a primary answers it, and publishes in the same script. It too begins by freeing
//!    memory: a server that has none left still lets its nodes know that they hear it.

use redis::Cmd;
use std::borrow::Cow;
use std::sync::LazyLock;

/// A script on the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Script {
    Agree,
    Lease,
    Renew,
    Fill,
    Release,
    Set,
    Compare,
    Invalidate,
    Sweep,
    Reap,
    Retire,
    BumpTag,
    Generation,
    Delay,
    Due,
    Beat,
    Hello,
    Reassert,
    Refresh,
}

/// A source: the parts it shares, then its own.
macro_rules! source {
    ($($file:literal),+) => { concat!($(include_str!(concat!("scripts/", $file))),+) };
}

/// The channels on which scripts publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Channels {
    /// Those of a server.
    Plain,
    /// Those of a slot of a Cluster.
    Sharded,
}

impl Channels {
    pub(crate) fn of(is_cluster: bool) -> Self {
        if is_cluster { Self::Sharded } else { Self::Plain }
    }
}

type Hashes = [String; Script::ALL.len()];

fn hashes(channels: Channels) -> Hashes {
    Script::ALL.map(|script| redis::Script::new(&script.text(channels)).get_hash().to_owned())
}

static HASHES: LazyLock<[Hashes; 2]> = LazyLock::new(|| [Channels::Plain, Channels::Sharded].map(hashes));

impl Script {
    pub(crate) const ALL: [Self; 19] = [
        Self::Agree,
        Self::Lease,
        Self::Renew,
        Self::Fill,
        Self::Release,
        Self::Set,
        Self::Compare,
        Self::Invalidate,
        Self::Sweep,
        Self::Reap,
        Self::Retire,
        Self::BumpTag,
        Self::Generation,
        Self::Delay,
        Self::Due,
        Self::Beat,
        Self::Hello,
        Self::Reassert,
        Self::Refresh,
    ];

    const fn source(self) -> &'static str {
        match self {
            Self::Agree => source!("agree.lua"),
            Self::Lease => source!("counter.lua", "lease_text.lua", "lease.lua"),
            Self::Renew => source!("lease_text.lua", "renew.lua"),
            Self::Fill => source!("lease_text.lua", "fill.lua"),
            Self::Release => source!("lease_text.lua", "release.lua"),
            Self::Set => source!("counter.lua", "set.lua"),
            Self::Compare => source!("counter.lua", "rules.lua", "compare.lua"),
            Self::Invalidate => source!("counter.lua", "invalidate.lua"),
            Self::Sweep => source!("counter.lua", "rules.lua", "sweep.lua"),
            Self::Reap => source!("rules.lua", "reap.lua"),
            Self::Retire => source!("rules.lua", "retire.lua"),
            Self::BumpTag => source!("counter.lua", "bump_tag.lua"),
            Self::Generation => source!("counter.lua", "generation.lua"),
            Self::Delay => source!("delay.lua"),
            Self::Due => source!("due.lua"),
            Self::Beat => source!("beat.lua"),
            Self::Hello => source!("counter.lua", "hello.lua"),
            Self::Reassert => source!("counter.lua", "reassert.lua"),
            Self::Refresh => source!("counter.lua", "refresh.lua"),
        }
    }

    fn text(self, channels: Channels) -> Cow<'static, str> {
        match channels {
            Channels::Plain => self.source().into(),
            Channels::Sharded => self.source().replace("'PUBLISH'", "'SPUBLISH'").into(),
        }
    }

    /// The call of this script with these keys; its arguments are yet to be added.
    pub(crate) fn call(self, channels: Channels, keys: &[&str]) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&HASHES[channels as usize][self as usize]).arg(keys.len()).arg(keys);
        command
    }

    /// The command that makes the server know this script.
    pub(crate) fn load(self, channels: Channels) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(self.text(channels).as_ref());
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_finds_its_own_hash() {
        for (index, script) in Script::ALL.into_iter().enumerate() {
            assert_eq!(index, script as usize, "{script:?}");
        }
        for hashes in &*HASHES {
            let distinct: std::collections::HashSet<_> = hashes.iter().collect();
            assert_eq!(distinct.len(), Script::ALL.len());
        }
    }

    #[test]
    fn whatever_publishes_does_so_on_the_channels_that_were_asked_for() {
        for script in Script::ALL {
            let (plain, sharded) = (script.text(Channels::Plain), script.text(Channels::Sharded));
            let publishes = plain.matches("redis.call('PUBLISH'").count();
            assert_eq!(publishes, plain.matches("PUBLISH'").count(), "{script:?}");
            assert_eq!(publishes, sharded.matches("redis.call('SPUBLISH'").count(), "{script:?}");
        }
    }
}
