//! How values are made shorter for L2: by which algorithm, how hard it tries, with which dictionary.

use super::check::Checker;
use super::file;
use super::report::Refusal;
use super::units::{ByteSize, Count};
use serde::{Serialize, Serializer};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use terrace::{Algorithm, Compression, CompressionLevel, Dictionary};
use toml::Spanned;

/// Compression in L2.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct CompressionConfig {
    /// The algorithm. Default `zstd`.
    pub algo: CompressionAlgorithm,
    /// How hard zstd tries, from 1 to 19. Default 1; none for what has no levels.
    #[serde(serialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub level: Option<CompressionLevel>,
    /// Shortest value that is compressed. Default 1 KiB.
    pub min: ByteSize,
}

impl CompressionConfig {
    /// As the library has it.
    pub(crate) fn of_library(&self) -> Compression {
        let threshold_bytes = usize::try_from(self.min.0).unwrap_or(usize::MAX);
        Compression {
            algorithm: self.algo.of_library(),
            threshold_bytes,
            level: self.level.unwrap_or_default(),
        }
    }
}

#[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn number<S: Serializer>(level: &Option<CompressionLevel>, serializer: S) -> Result<S::Ok, S::Error> {
    level.map(CompressionLevel::get).serialize(serializer)
}

/// A compression algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CompressionAlgorithm {
    /// Zstandard.
    Zstd,
    /// LZ4.
    Lz4,
    /// No compression.
    None,
}

impl CompressionAlgorithm {
    fn of_library(self) -> Option<Algorithm> {
        match self {
            Self::Zstd => Some(Algorithm::Zstd),
            Self::Lz4 => Some(Algorithm::Lz4),
            Self::None => None,
        }
    }

    /// Why a level says nothing with it, if so.
    fn has_no_levels(self) -> Option<&'static str> {
        match self {
            Self::Zstd if !Algorithm::Zstd.is_present() => Some("this program was built without zstd"),
            Self::Zstd => None,
            Self::Lz4 => Some("lz4 has no levels"),
            Self::None => Some("what is not compressed has no level"),
        }
    }
}

/// A dictionary that the values of a keyspace are compressed with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct DictionaryConfig {
    /// The file that it was read from.
    #[serde(rename = "dictionary")]
    pub file: PathBuf,
    /// What was in it.
    #[serde(skip)]
    pub dictionary: Dictionary,
}

/// The dictionary in a file, or why there is none. No more is read than a dictionary can have.
fn read_dictionary(path: &Path) -> Result<Dictionary, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(Dictionary::BYTES_MAX as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("this dictionary cannot be read: {error}"))?;
    if bytes.len() > Dictionary::BYTES_MAX {
        return Err(format!(
            "this file is too long for a dictionary, which has at most {} bytes",
            Dictionary::BYTES_MAX
        ));
    }
    Dictionary::new(&bytes).map_err(|error| format!("this file cannot be used as a dictionary: {error}"))
}

impl Checker<'_> {
    pub(super) fn compression(&mut self, given: file::Compression) -> CompressionConfig {
        const ALGORITHMS: [(&str, CompressionAlgorithm); 3] = [
            ("zstd", CompressionAlgorithm::Zstd),
            ("lz4", CompressionAlgorithm::Lz4),
            ("none", CompressionAlgorithm::None),
        ];
        let algo = self.word(given.algo, "algorithm", &ALGORITHMS, CompressionAlgorithm::Zstd);
        let min = given.min.unwrap_or(ByteSize(1024));
        CompressionConfig { algo, level: self.level(given.level, algo), min }
    }

    fn level(
        &mut self,
        given: Option<Spanned<Count>>,
        algo: CompressionAlgorithm,
    ) -> Option<CompressionLevel> {
        let none = algo.has_no_levels();
        let Some(given) = given else { return none.is_none().then(CompressionLevel::default) };
        if let Some(reason) = none {
            let help = format!("leave `level` out, or set `algo = \"{}\"`", Algorithm::Zstd.name());
            self.refuse(&Refusal::new(given.span(), reason).help(help));
            return None;
        }
        let level = u8::try_from(given.get_ref().0).ok().and_then(|level| CompressionLevel::new(level).ok());
        if level.is_none() {
            let (least, most) = (CompressionLevel::FASTEST, CompressionLevel::MAX);
            let title = format!("this cannot be: the level is from {least} to {most}");
            let help = "from 20 on not every reader can read large values";
            self.refuse(&Refusal::new(given.span(), title).help(help));
        }
        level
    }

    /// The dictionary in a file. It is read now, so that one that cannot be is refused before anything is stored with it.
    pub(super) fn dictionary(
        &mut self,
        file: &Spanned<String>,
        algorithm: CompressionAlgorithm,
    ) -> Option<DictionaryConfig> {
        let path = PathBuf::from(file.get_ref());
        let refusal = if algorithm == CompressionAlgorithm::Zstd {
            match read_dictionary(&path) {
                Ok(dictionary) => return Some(DictionaryConfig { file: path, dictionary }),
                Err(title) => Refusal::new(file.span(), title).help(
                    "make one with `terrace dict train KEYSPACE -o FILE`; a path that does not begin with `/` is looked for where the service was started",
                ),
            }
        } else {
            let title = "a dictionary goes with zstd alone, and this configuration compresses otherwise";
            Refusal::new(file.span(), title)
                .help("set `defaults.compression.algo = \"zstd\"`, or leave the dictionary out")
        };
        self.refuse(&refusal);
        None
    }
}
