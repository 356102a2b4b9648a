//! What are keys and channels called on the server, and which of them may a sweep touch?
//!
//! This is the only place that knows. With `<p>` for the configured prefix, and `{ns.7}` for partition 7 of the
//! namespace `ns`:
//!
//! | name | holds |
//! |---|---|
//! | `<p>1:{ns.7}:d:<key>` | a value, in its envelope |
//! | `<p>1:{ns.7}:l:<key>` | a lease |
//! | `<p>1:{ns.7}:s` | the partition's counter |
//! | `<p>1:{ns.7}:log` | its log |
//! | `<p>1:{ns.7}:g` | its tag generations |
//! | `<p>1:{ns.0}:later` | the delayed invalidations of the whole namespace |
//! | `<p>1:{ns.7}:c` | its channel; in database 3 it is `<p>1:{ns.7}:c3` |
//! | `<p>1:meta:ns` | the settings that all nodes have to share |
//! | `<p>1:beat:<origin>` | the last beat of a node, and the channel on which the node hears it |
//! | `<p>1:beat:{12}:<origin>` | the same in a Cluster, one for each primary |
//!
//! The plain mode has names of its own, which begin with `<p>1p:` where those above begin with `<p>1:`, and the same forms for
//! values, leases, generations, delayed invalidations, channels and beats. It has no counters and logs of partitions, but
//!
//! | name | holds |
//! |---|---|
//! | `<p>1p:{ns}:s` | what the namespace has to remember: its rules, its first number, its incarnation |
//! | `<p>1p:{ns}:e` | its epoch: leases of another one are void |
//! | `<p>1p:{ns}:n` | the last number that was given out |
//! | `<p>1p:{ns}:t` | the time that the next number is to be above |
//!
//! The settings are `<p>1:meta:ns` in both modes, so that nodes of both find out about each other.
//!
//! 1. The braces make all that is in a partition one slot of a Cluster. A prefix has no braces and a namespace has
//!    neither braces nor dots, so a key cannot choose its slot, and the first `{` ends the prefix.
//! 2. The pattern that goes to the server is made of escaped text and what [`Names::logical`] checks again, so a
//!    sweep touches values of its own namespace alone, whatever is in keys, patterns and prefixes. It contains no
//!    wildcard of the caller's: the caller's pattern is matched here, in linear time.
//! 3. Channels know no databases, so those of partitions have the database's number in their name, but for database 0.
//!    Else nodes of one database would hear of changes in another.
//! 4. What a namespace's names begin with ([`Names::tracked`]) begins no name of another one, nor what those begin with: a
//!    server refuses to track prefixes that overlap. Tracking knows no databases either; a name alike in another one costs a miss.

use terrace_core::remote::SweepRule;
use terrace_core::{Glob, Key, Namespace, Partition};

/// The version of the layout, part of every name.
const LAYOUT: &str = "1:";
/// That of the plain mode.
const LAYOUT_PLAIN: &str = "1p:";

/// The names of one deployment.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
    /// What the names begin with that both modes share.
    shared: String,
    partitions: u16,
    /// How the names of channels end.
    channel: String,
}

/// The names of what one partition shares.
pub(crate) struct PartitionNames {
    pub(crate) counter: String,
    pub(crate) log: String,
    pub(crate) channel: String,
    pub(crate) generations: String,
}

impl Names {
    pub(crate) fn new(prefix: &str, partitions: u16, database: u32) -> Self {
        let channel = if database == 0 { "c".to_owned() } else { format!("c{database}") };
        let own = [prefix, LAYOUT].concat();
        Self { shared: own.clone(), prefix: own, partitions, channel }
    }

    /// The names of the plain mode.
    pub(crate) fn plain(prefix: &str, partitions: u16, database: u32) -> Self {
        Self { prefix: [prefix, LAYOUT_PLAIN].concat(), ..Self::new(prefix, partitions, database) }
    }

    pub(crate) fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.partitions).map(Partition)
    }

    pub(crate) fn partition_count(&self) -> u16 {
        self.partitions
    }

    /// The partition that a key or tag belongs to.
    pub(crate) fn partition_of(&self, namespace: &Namespace, name: &str) -> Partition {
        Partition::of(namespace, name, self.partitions)
    }

    fn named(&self, namespace: &Namespace, partition: Partition, kind: &str, key: &str) -> String {
        let length = self.prefix.len() + namespace.as_str().len() + kind.len() + key.len() + 9;
        let mut name = String::with_capacity(length);
        for part in [
            &self.prefix,
            "{",
            namespace.as_str(),
            ".",
            itoa::Buffer::new().format(partition.0),
            "}:",
            kind,
            key,
        ] {
            name.push_str(part);
        }
        name
    }

    pub(crate) fn value(&self, namespace: &Namespace, key: &Key) -> String {
        self.named(namespace, self.partition_of(namespace, key.as_str()), "d:", key.as_str())
    }

    pub(crate) fn lease(&self, namespace: &Namespace, key: &Key) -> String {
        self.named(namespace, self.partition_of(namespace, key.as_str()), "l:", key.as_str())
    }

    pub(crate) fn counter(&self, namespace: &Namespace, partition: Partition) -> String {
        self.named(namespace, partition, "s", "")
    }

    pub(crate) fn log(&self, namespace: &Namespace, partition: Partition) -> String {
        self.named(namespace, partition, "log", "")
    }

    pub(crate) fn channel(&self, namespace: &Namespace, partition: Partition) -> String {
        self.named(namespace, partition, &self.channel, "")
    }

    pub(crate) fn of_partition(&self, namespace: &Namespace, partition: Partition) -> PartitionNames {
        PartitionNames {
            counter: self.counter(namespace, partition),
            log: self.log(namespace, partition),
            channel: self.channel(namespace, partition),
            generations: self.named(namespace, partition, "g", ""),
        }
    }

    pub(crate) fn delayed(&self, namespace: &Namespace) -> String {
        self.named(namespace, Partition(0), "later", "")
    }

    pub(crate) fn meta(&self, namespace: &Namespace) -> String {
        [&self.shared, "meta:", namespace.as_str()].concat()
    }

    fn of_namespace(&self, namespace: &Namespace, kind: &str) -> String {
        [&self.prefix, "{", namespace.as_str(), "}:", kind].concat()
    }

    pub(crate) fn state(&self, namespace: &Namespace) -> String {
        self.of_namespace(namespace, "s")
    }

    pub(crate) fn epoch(&self, namespace: &Namespace) -> String {
        self.of_namespace(namespace, "e")
    }

    pub(crate) fn last_number(&self, namespace: &Namespace) -> String {
        self.of_namespace(namespace, "n")
    }

    pub(crate) fn time(&self, namespace: &Namespace) -> String {
        self.of_namespace(namespace, "t")
    }

    /// The key of a node's beats, and the channel of them. In a Cluster there is one for each primary, with a hash tag that
    /// leads there.
    pub(crate) fn beat(&self, tag: Option<u32>, origin: &str) -> String {
        let tag = tag.map(|tag| format!("{{{tag}}}:")).unwrap_or_default();
        [&self.prefix, "beat:", &tag, origin].concat()
    }

    /// A pattern for the server that all values match which the rule may name, and few others.
    pub(crate) fn scan_pattern(&self, namespace: &Namespace, rule: &SweepRule) -> String {
        let literal = match rule {
            SweepRule::All => String::new(),
            SweepRule::Matching(glob) => Glob::escape(&glob.literal_prefix()),
        };
        [&Glob::escape(&self.prefix), "{", namespace.as_str(), ".*}:d:", &literal, "*"].concat()
    }

    /// The key whose value has this name, if it is the name of a value of this namespace.
    pub(crate) fn logical<'a>(&self, namespace: &Namespace, name: &'a [u8]) -> Option<&'a str> {
        let (found, _, rest) = self.parts(name)?;
        let key = std::str::from_utf8(rest.strip_prefix(b"d:")?).ok()?;
        (found == namespace.as_str().as_bytes()).then_some(key)
    }

    /// Whose channel this is, if it is one of these namespaces.
    pub(crate) fn of_channel(
        &self,
        namespaces: &[Namespace],
        channel: &[u8],
    ) -> Option<(Namespace, Partition)> {
        let (found, partition, rest) = self.parts(channel)?;
        let namespace = namespaces.iter().find(|namespace| namespace.as_str().as_bytes() == found)?;
        (rest == self.channel.as_bytes()).then(|| (namespace.clone(), partition))
    }

    /// What all names begin with of what is in the partitions of a namespace.
    pub(crate) fn tracked(&self, namespace: &Namespace) -> String {
        [&self.prefix, "{", namespace.as_str(), "."].concat()
    }

    /// Whether this is the name of a value, of any namespace.
    pub(crate) fn is_value(&self, name: &[u8]) -> bool {
        self.parts(name).is_some_and(|(_, _, rest)| rest.starts_with(b"d:"))
    }

    /// Which key's value has this name, if it is one of these namespaces.
    pub(crate) fn of_value(&self, namespaces: &[Namespace], name: &[u8]) -> Option<(Namespace, Key)> {
        let (found, _, _) = self.parts(name)?;
        let namespace = namespaces.iter().find(|namespace| namespace.as_str().as_bytes() == found)?;
        let key = Key::new(self.logical(namespace, name)?).ok()?;
        Some((namespace.clone(), key))
    }

    /// The namespace and the partition in a name, and what follows them. A namespace has no dots, so the first one
    /// ends it.
    fn parts<'a>(&self, name: &'a [u8]) -> Option<(&'a [u8], Partition, &'a [u8])> {
        let rest = name.strip_prefix(self.prefix.as_bytes())?.strip_prefix(b"{")?;
        let (namespace, rest) = rest.split_at(rest.iter().position(|byte| *byte == b'.')?);
        let rest = &rest[1..];
        let (number, rest) = rest.split_at(rest.iter().take_while(|byte| byte.is_ascii_digit()).count());
        let rest = rest.strip_prefix(b"}:")?;
        let number: u16 = std::str::from_utf8(number).ok()?.parse().ok()?;
        (number < self.partitions).then_some((namespace, Partition(number), rest))
    }

    /// The key of the value with this name, if it is one of this namespace that the rule names.
    pub(crate) fn named_by(&self, namespace: &Namespace, rule: &SweepRule, name: &[u8]) -> Option<Key> {
        let key = self.logical(namespace, name).filter(|key| rule.names(key))?;
        Key::new(key).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(text: &str) -> Namespace {
        Namespace::new(text).expect("valid")
    }

    #[test]
    fn names_are_as_they_are_for_ever() {
        let names = Names::new("terrace:", 256, 0);
        let (users, key) = (namespace("users"), Key::new("user:42").expect("valid"));
        assert_eq!(names.value(&users, &key), "terrace:1:{users.134}:d:user:42");
        assert_eq!(names.lease(&users, &key), "terrace:1:{users.134}:l:user:42");
        assert_eq!(names.counter(&users, Partition(7)), "terrace:1:{users.7}:s");
        let shared = names.of_partition(&users, Partition(7));
        assert_eq!(
            [shared.counter, shared.log, shared.channel, shared.generations],
            [
                "terrace:1:{users.7}:s",
                "terrace:1:{users.7}:log",
                "terrace:1:{users.7}:c",
                "terrace:1:{users.7}:g"
            ]
        );
        assert_eq!(names.delayed(&users), "terrace:1:{users.0}:later");
        assert_eq!(names.meta(&users), "terrace:1:meta:users");
        assert_eq!(names.beat(None, "00000000000000ab"), "terrace:1:beat:00000000000000ab");
        assert_eq!(names.beat(Some(12), "00000000000000ab"), "terrace:1:beat:{12}:00000000000000ab");
        let third = Names::new("terrace:", 256, 3);
        assert_eq!(third.channel(&users, Partition(7)), "terrace:1:{users.7}:c3");
    }

    #[test]
    fn names_of_the_plain_mode_are_others_but_for_the_settings() {
        let (names, plain) = (Names::new("terrace:", 256, 3), Names::plain("terrace:", 256, 3));
        let (users, key) = (namespace("users"), Key::new("user:42").expect("valid"));
        assert_eq!(plain.meta(&users), names.meta(&users));
        assert_eq!(plain.value(&users, &key), "terrace:1p:{users.134}:d:user:42");
        assert_eq!(plain.lease(&users, &key), "terrace:1p:{users.134}:l:user:42");
        assert_eq!(plain.channel(&users, Partition(7)), "terrace:1p:{users.7}:c3");
        assert_eq!(plain.of_partition(&users, Partition(7)).generations, "terrace:1p:{users.7}:g");
        assert_eq!(plain.delayed(&users), "terrace:1p:{users.0}:later");
        assert_eq!(plain.beat(None, "00000000000000ab"), "terrace:1p:beat:00000000000000ab");
        let all = [plain.state(&users), plain.epoch(&users), plain.last_number(&users), plain.time(&users)];
        assert_eq!(all, ["s", "e", "n", "t"].map(|kind| format!("terrace:1p:{{users}}:{kind}")));
        let both = std::slice::from_ref(&users);
        assert_eq!(names.of_channel(both, plain.channel(&users, Partition(7)).as_bytes()), None);
        assert_eq!(names.logical(&users, plain.value(&users, &key).as_bytes()), None);
        assert_eq!(plain.logical(&users, names.value(&users, &key).as_bytes()), None);
    }

    #[test]
    fn a_channel_is_known_by_its_name() {
        let (zero, third) = (Names::new("p*:", 256, 0), Names::new("p*:", 256, 3));
        let both = [namespace("users"), namespace("users2")];
        for names in [&zero, &third] {
            for namespace in &both {
                for partition in [Partition(0), Partition(255)] {
                    let channel = names.channel(namespace, partition);
                    let found = names.of_channel(&both, channel.as_bytes());
                    assert_eq!(found, Some((namespace.clone(), partition)), "{channel}");
                }
            }
        }
        for name in [
            "p*:1:{users.0}:c3",
            "p*:1:{users.256}:c",
            "p*:1:{users.}:c",
            "p*:1:{users}:c",
            "p*:1:{users.0}:cc",
            "p*:1:{users.0}:d:c",
            "p*:1:{other.0}:c",
            "p*:1:beat:c",
            "px:1:{users.0}:c",
        ] {
            assert_eq!(zero.of_channel(&both, name.as_bytes()), None, "{name}");
        }
        assert_eq!(third.of_channel(&both, b"p*:1:{users.0}:c"), None);
    }

    #[test]
    fn what_is_tracked_of_one_namespace_is_nothing_of_another() {
        let names = Names::new("p*:", 256, 3);
        let all = ["users", "users2", "user", "u"].map(namespace);
        for one in &all {
            let tracked = names.tracked(one);
            for other in &all {
                assert_eq!(names.tracked(other).starts_with(&tracked), one == other, "{one} {other}");
                let value = names.value(other, &Key::new("k").expect("valid"));
                assert_eq!(value.starts_with(&tracked), one == other, "{tracked} {value}");
            }
            assert!(names.lease(one, &Key::new("k").expect("valid")).starts_with(&tracked));
            assert!(!names.beat(None, "ab").starts_with(&tracked) && !names.meta(one).starts_with(&tracked));
        }
    }

    #[test]
    fn a_value_is_known_by_its_name() {
        let names = Names::new("p*:", 256, 0);
        let both = [namespace("users"), namespace("users2")];
        for namespace in &both {
            for text in ["k", "d:", "}:d:x", " a\u{1f980} {b.1}"] {
                let key = Key::new(text).expect("valid");
                let name = names.value(namespace, &key);
                assert!(names.is_value(name.as_bytes()));
                assert_eq!(names.of_value(&both, name.as_bytes()), Some((namespace.clone(), key)), "{name}");
            }
        }
        for name in [
            &b"p*:1:{users.0}:l:k"[..],
            b"p*:1:{users.0}:s",
            b"p*:1:{users.0}:log",
            b"p*:1:{users.0}:dd:k",
            b"p*:1:{users.256}:d:k",
            b"p*:1:{users.x}:d:k",
            b"p*:1:meta:users",
            b"px:1:{users.0}:d:k",
            b"d:k",
            b"",
        ] {
            assert!(!names.is_value(name) && names.of_value(&both, name).is_none(), "{name:?}");
        }
        for name in [
            &b"p*:1:{other.0}:d:k"[..],
            b"p*:1:{users.0}:d:",
            b"p*:1:{users.0}:d:\xff",
            b"p*:1:{users.0}:d:\n",
        ] {
            assert_eq!(names.of_value(&both, name), None, "{name:?}");
        }
    }

    #[test]
    fn only_values_of_the_namespace_are_swept() {
        let names = Names::new("p*:", 256, 0);
        let users = namespace("users");
        let is_swept = |name: &str| names.named_by(&users, &SweepRule::All, name.as_bytes()).is_some();
        assert!(is_swept("p*:1:{users.0}:d:a"));
        for name in [
            "p*:1:{usersabc.0}:d:a",
            "p*:1:{users.256}:d:a",
            "p*:1:{users.x}:d:a",
            "p*:1:{users.}:d:a",
            "p*:1:{users.0}:l:a",
            "p*:1:{users.0}:s",
            "p*:1:{users.0}x}:d:a",
            "p*:1:meta:users",
            "px:1:{users.0}:d:a",
        ] {
            assert!(!is_swept(name), "{name}");
        }
    }

    #[test]
    fn a_key_that_looks_like_a_name_is_matched_as_the_key_that_it_is() {
        let names = Names::new("t:", 256, 0);
        let users = namespace("users");
        let rule = SweepRule::Matching(Glob::new("x").expect("valid"));
        let key = names.named_by(&users, &rule, b"t:1:{users.0}:d:x");
        assert_eq!(key.as_ref().map(Key::as_str), Some("x"));
        assert_eq!(names.named_by(&users, &rule, b"t:1:{users.0}:d:y}:d:x"), None);
    }

    #[test]
    fn the_server_sees_no_wildcard_of_the_caller() {
        let names = Names::new("p?[a]*\\:", 256, 0);
        let users = namespace("users");
        let pattern =
            |glob: &str| names.scan_pattern(&users, &SweepRule::Matching(Glob::new(glob).expect("valid")));
        assert_eq!(pattern("a*a*a*b"), r"p\?\[a\]\*\\:1:{users.*}:d:a*");
        assert_eq!(pattern("*"), r"p\?\[a\]\*\\:1:{users.*}:d:*");
        assert_eq!(pattern(r"50\*x?"), r"p\?\[a\]\*\\:1:{users.*}:d:50\*x*");
    }
}
