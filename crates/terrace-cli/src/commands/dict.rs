//! `dict train`: learns from values of a running service what they have in common.
//!
//! 1. Nothing is changed: keys are listed, and their values read, of which the tiers have most.
//! 2. One value in five is kept apart and not learned from. What is said of the gain is measured on those.
//! 3. The file is there whole or not at all.

use crate::args::TrainArgs;
use crate::client::{Client, IS_IT_TERRACE, path_of_keys};
use crate::failure::{Exit, Failure};
use crate::output::{self, Talk};
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use std::io::Write as _;
use terrace::Dictionary;

/// Keys that are listed in one go.
const PAGE: u64 = 1000;
/// Keys that are read in one go: fewer, as their values come along.
const TOGETHER: usize = 100;
/// Fewer values tell too little.
const SAMPLES_MIN: usize = 100;
/// One value in so many is kept apart.
const APART: usize = 5;
/// A smaller dictionary has no room for anything.
const BYTES_MIN: usize = 1 << 10;
/// Most bytes of values that are learned from: more takes long and changes little.
const LEARNED_BYTES_MAX: usize = 64 << 20;

/// Learns a dictionary, and says what it brings.
pub(crate) async fn train(args: TrainArgs, talk: Talk) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    let bytes_max = usize::try_from(args.size.0).unwrap_or(usize::MAX);
    if !(BYTES_MIN..=Dictionary::BYTES_MAX).contains(&bytes_max) {
        return Err(Failure::usage(format!("a dictionary cannot have {}", args.size))
            .next("say 1KiB to 128KiB")
            .into());
    }
    let keys = list(&client, &args).await?;
    let values = read(&client, &keys).await?;
    if values.len() < SAMPLES_MIN {
        let what =
            format!("{} has {} values to learn from, of {SAMPLES_MIN} at least", args.keyspace, values.len());
        let next = "let it answer requests for a while, `terrace warm` it, or say another --pattern";
        return Err(Failure::new(Exit::Failure, what).next(next).into());
    }
    let (mut learned, mut apart) = (Vec::new(), Vec::new());
    for (place, value) in values.iter().enumerate() {
        if place % APART == 0 { apart.push(value) } else { learned.push(value) }
    }
    let dictionary = Dictionary::train(&learned, bytes_max).map_err(|error| {
        let next = "read more with --samples, or make a smaller one with --size";
        Failure::new(Exit::Failure, "no dictionary came of it").why(error).next(next)
    })?;
    let gain = Gain::of(&apart, &dictionary);
    save(&args, &dictionary)?;
    if args.service.json {
        output::line(&gain.json(&args, &dictionary, learned.len()))?;
    }
    talk.say(format!(
        "learned from {} values, and measured on {} others: {} bytes each, of which L2 keeps {} without a dictionary (zstd from 1KiB on), and {} with this one",
        learned.len(), apart.len(), gain.each(gain.plain), gain.each(gain.without), gain.each(gain.with),
    ));
    if gain.with >= gain.without {
        let least = Dictionary::PAYLOAD_BYTES_MIN;
        talk.say(format!(
            "it saves nothing: do not use it. Values shorter than {least} bytes are never compressed with one; {} is written all the same",
            args.output.display()
        ));
        return Ok(Exit::Success);
    }
    talk.say(format!(
        "{} has {} bytes; to use it: [keyspace.{}] compression = {{ dictionary = {:?} }}",
        args.output.display(),
        dictionary.as_bytes().len(),
        args.keyspace,
        args.output.to_string_lossy(),
    ));
    Ok(Exit::Success)
}

/// Keys of the keyspace that the tiers hold, as many as are asked for.
async fn list(client: &Client, args: &TrainArgs) -> anyhow::Result<Vec<String>> {
    let most = usize::try_from(args.samples).unwrap_or(usize::MAX);
    let (mut keys, mut cursor) = (BTreeSet::new(), None::<String>);
    loop {
        let path = path_of_keys(&args.pattern, Some(&args.keyspace), cursor.as_deref(), PAGE);
        let page = client.json(&client.read_of(Some(&args.keyspace), &path).await?)?;
        let found = page["keys"].as_array().into_iter().flatten();
        keys.extend(found.filter_map(|entry| entry["key"].as_str()).map(str::to_owned));
        cursor = page["cursor"].as_str().map(str::to_owned);
        if cursor.is_none() || keys.len() >= most {
            return Ok(keys.into_iter().take(most).collect());
        }
    }
}

/// What is said of many keys.
#[derive(Deserialize)]
struct Answers<'a> {
    #[serde(borrow)]
    get: Vec<Answer<'a>>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    encoding: Option<String>,
}

impl Answer<'_> {
    /// The value as it is kept, if there is one.
    fn bytes(&self) -> Option<Vec<u8>> {
        let value = self.value?;
        match self.encoding.as_deref() {
            None => Some(value.get().as_bytes().to_vec()),
            Some("text") => Some(serde_json::from_str::<String>(value.get()).ok()?.into_bytes()),
            Some(_) => STANDARD.decode(serde_json::from_str::<String>(value.get()).ok()?).ok(),
        }
    }
}

/// The values of keys, of those that have one.
async fn read(client: &Client, keys: &[String]) -> anyhow::Result<Vec<Vec<u8>>> {
    let (mut values, mut bytes) = (Vec::new(), 0);
    for some in keys.chunks(TOGETHER) {
        let body = serde_json::json!({ "get": some }).to_string();
        let reply = client.send(Method::POST, "/api/cache/batch", body).await?;
        let answers: Answers<'_> = serde_json::from_str(&reply).map_err(|error| {
            let what = format!("{} did not answer with entries", client.base());
            Failure::new(Exit::Failure, what).why(error).next(IS_IT_TERRACE)
        })?;
        for value in answers.get.iter().filter_map(Answer::bytes).filter(|value| !value.is_empty()) {
            bytes += value.len();
            if bytes > LEARNED_BYTES_MAX {
                return Ok(values);
            }
            values.push(value);
        }
    }
    Ok(values)
}

/// What values take in L2, in bytes, all together.
struct Gain {
    count: usize,
    plain: usize,
    without: usize,
    with: usize,
}

impl Gain {
    fn of(values: &[&Vec<u8>], dictionary: &Dictionary) -> Self {
        let sum = |length: &dyn Fn(&[u8]) -> usize| values.iter().map(|value| length(value)).sum();
        Self {
            count: values.len(),
            plain: sum(&<[u8]>::len),
            without: sum(&|value| Dictionary::length_without(value)),
            with: sum(&|value| dictionary.length_with(value)),
        }
    }

    fn each(&self, bytes: usize) -> usize {
        bytes / self.count.max(1)
    }

    fn json(&self, args: &TrainArgs, dictionary: &Dictionary, learned: usize) -> String {
        let told = serde_json::json!({
            "keyspace": args.keyspace, "file": args.output, "bytes": dictionary.as_bytes().len(), "id": dictionary.id(),
            "learned": learned, "measured": self.count,
            "value_bytes": self.plain, "without_bytes": self.without, "with_bytes": self.with,
        });
        told.to_string()
    }
}

/// Writes the file beside its place, and then puts it there.
fn save(args: &TrainArgs, dictionary: &Dictionary) -> anyhow::Result<()> {
    let folder = args.output.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(std::path::Path::new("."));
    let written = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(dictionary.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&args.output).map_err(|error| error.error)?;
        Ok(())
    };
    written().with_context(|| format!("cannot write {}", args.output.display()))
}
