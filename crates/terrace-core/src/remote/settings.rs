//! What do all nodes of a namespace have to share, and how is it told that one does not?
//!
//! The first node that opens a namespace writes a record of its settings into L2; whoever opens it later has to have the same.
//!
//! 1. In the record is what makes two nodes misunderstand each other, and nothing else. What costs misses, or holds for one
//!    node alone, is left to each node: times to live, limits, compression, policies, L1.
//! 2. A record is compared and completed in one step. A node that is refused has written nothing.
//! 3. What an earlier release has not written is not held against it: the next node that agrees with the rest adds it.
//!    What a later release has added is not looked at.

use super::RemoteError;
use crate::codec::CodecId;
use crate::key::Namespace;

/// What all nodes have to share that use a namespace, besides what the adapter decides itself.
///
/// # Examples
/// ```
/// use terrace_core::codec::CodecId;
/// use terrace_core::remote::SharedSettings;
/// let settings = SharedSettings { codec: Some((CodecId::JSON, "json".to_owned())) };
/// assert_ne!(settings, SharedSettings::default());
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SharedSettings {
    /// How values become bytes, with the codec's name; `None` for who neither reads nor writes values, and need not agree.
    pub codec: Option<(CodecId, String)>,
}

/// The settings of a namespace as L2 holds them: names, and values as text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SettingsRecord(Vec<(&'static str, String)>);

impl SharedSettings {
    /// The record of these settings, for an adapter that has so many partitions in each namespace.
    pub fn record(&self, partitions: u16) -> SettingsRecord {
        let mut fields = vec![("partitions", partitions.to_string())];
        if let Some((id, name)) = &self.codec {
            fields.push(("codec", id.0.to_string()));
            fields.push(("codec_name", name.clone()));
        }
        SettingsRecord(fields)
    }
}

impl SettingsRecord {
    /// The record with one more setting, which the adapter has.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.0.push((name, value.to_owned()));
        self
    }

    /// Each setting's name and value. Names are those of the fields in L2, and never change.
    pub fn fields(&self) -> &[(&'static str, String)] {
        &self.0
    }

    /// Compares with what L2 holds of each field, in their order.
    ///
    /// # Errors
    /// [`RemoteError::Mismatch`] if one is another value: it names the namespace, the setting, both values, and what to do.
    pub fn check(&self, namespace: &Namespace, there: &[Option<String>]) -> Result<(), RemoteError> {
        let differs = |((name, here), there): (&(&'static str, String), &Option<String>)| {
            let there = there.as_ref().filter(|there| *there != here)?;
            Some((*name, here.clone(), there.clone()))
        };
        // The name says more than the number, where both differ.
        let Some((name, here, there)) = self.0.iter().zip(there).filter_map(differs).next_back() else {
            return Ok(());
        };
        let setting = name.replace('_', " ");
        Err(RemoteError::Mismatch {
            reason: format!(
                "namespace `{namespace}` has {setting} `{there}`, and this node is set to `{here}`; use another namespace, \
                 or the same setting; or, if no node lives any more that has `{there}`, let L2 forget the namespace's \
                 settings: `terrace forget-settings {namespace}`, or `Cache::forget_settings`"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace() -> Namespace {
        Namespace::new("users").expect("valid")
    }

    fn settings(id: CodecId, name: &str) -> SharedSettings {
        SharedSettings { codec: Some((id, name.to_owned())) }
    }

    fn there(record: &SettingsRecord) -> Vec<Option<String>> {
        record.fields().iter().map(|(_, value)| Some(value.clone())).collect()
    }

    #[test]
    fn equal_settings_agree_and_what_was_never_written_is_no_difference() {
        let record = settings(CodecId::JSON, "json").record(256);
        assert_eq!(record.check(&namespace(), &there(&record)).map_err(|error| error.to_string()), Ok(()));
        assert!(record.check(&namespace(), &[Some("256".to_owned()), None, None]).is_ok());
    }

    #[test]
    fn a_difference_is_told_with_both_values_and_what_to_do() {
        let record = settings(CodecId::POSTCARD, "postcard").record(256);
        let other = settings(CodecId::JSON, "json").record(64);
        let same_number = settings(CodecId::POSTCARD, "ours").record(256);
        let words = |other: &SettingsRecord| {
            record.check(&namespace(), &there(other)).expect_err("they differ").to_string()
        };
        let told = words(&other);
        for part in ["`users`", "codec name `json`", "set to `postcard`", "terrace forget-settings users"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(words(&same_number).contains("codec name `ours`"));
        let partitions = SharedSettings::default().record(64);
        assert!(words(&partitions).contains("partitions `64`, and this node is set to `256`"));
    }
}
