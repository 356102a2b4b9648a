//! Which keys did a real program ask for, one after another?
//!
//! 1. The format is found by content: zstd and gzip by their first bytes, then text (one key per line) or binary
//!    (one little-endian `u64` per request). A `.k64` in the name settles the last question in favour of binary.
//! 2. Keys are renumbered 0, 1, 2 … in order of first appearance, so a trace of millions of requests is 4 bytes a
//!    request, and the same whatever the keys looked like.
//! 3. A file that ends in the middle of a number or a compressed frame is an error, never a shorter trace.
//!
//! Deliberately absent: writes. Every request of a trace is a read.

use crate::failure::Failure;
use anyhow::{Context as _, bail, ensure};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::hash::Hash;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// How much of a file is looked at to tell text from binary.
const SNIFF_BYTES: usize = 64 << 10;

/// A sequence of requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Trace {
    /// Its short name: the file's, without endings, in the characters that a key and a namespace both take.
    pub(crate) name: String,
    /// The number of the key of each request.
    pub(crate) requests: Vec<u32>,
    /// How many different keys there are. Their numbers are below this.
    pub(crate) distinct: u32,
    /// The size in bytes of the object of each key, if the trace comes with sizes.
    pub(crate) sizes: Option<Vec<u32>>,
}

impl Trace {
    /// Reads a trace, at most its first `limit` requests, and the sizes beside it if there are any.
    pub(crate) fn read(path: &Path, limit: Option<usize>) -> anyhow::Result<Self> {
        File::open(path).map_err(|error| Failure::unreadable(path, &error))?;
        let cannot_read = || format!("cannot read the trace {}", path.display());
        let mut trace = Self::read_keys(path, limit).with_context(cannot_read)?;
        if let Some(sizes) = sizes_beside(path) {
            trace.sizes = Some(trace.read_sizes(&sizes).with_context(cannot_read)?);
        }
        Ok(trace)
    }

    fn read_keys(path: &Path, limit: Option<usize>) -> anyhow::Result<Self> {
        ensure!(
            !file_name(path).contains(".s32"),
            "these are the sizes of a trace; name its .k64 file instead"
        );
        let mut content = open(path)?;
        let limit = limit.unwrap_or(usize::MAX);
        let (requests, distinct) = if is_binary(path, content.fill_buf()?) {
            let mut keys = Numbering::default();
            (read_numbers(content, limit, |key| keys.number(u64::from_le_bytes(key)))?, keys.len())
        } else {
            let mut keys = Numbering::default();
            (read_lines(content, limit, |key| keys.number(key))?, keys.len())
        };
        ensure!(!requests.is_empty(), "there is no request in it");
        Ok(Self { name: short_name(path), requests, distinct, sizes: None })
    }

    fn read_sizes(&self, path: &Path) -> anyhow::Result<Vec<u32>> {
        let per_request =
            read_numbers(open(path)?, self.requests.len(), |size| Ok(u32::from_le_bytes(size)))?;
        ensure!(
            per_request.len() == self.requests.len(),
            "{} has {} sizes for {} requests",
            path.display(),
            per_request.len(),
            self.requests.len()
        );
        let mut per_key = vec![0; self.distinct as usize];
        for (&key, &size) in self.requests.iter().zip(&per_request) {
            per_key[key as usize] = size;
        }
        Ok(per_key)
    }
}

/// Gives each new key the next number.
#[derive(Debug)]
struct Numbering<K>(HashMap<K, u32>);

impl<K> Default for Numbering<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Numbering<K> {
    fn number(&mut self, key: K) -> anyhow::Result<u32> {
        let next = self.0.len();
        Ok(match self.0.entry(key) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(vacant) => {
                *vacant.insert(u32::try_from(next).context("more than 4,294,967,295 different keys")?)
            }
        })
    }

    fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }
}

/// The decompressed content of a file.
fn open(path: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    let mut file = BufReader::with_capacity(SNIFF_BYTES, File::open(path)?);
    let head = file.fill_buf()?;
    Ok(if head.starts_with(&ZSTD_MAGIC) {
        Box::new(BufReader::with_capacity(SNIFF_BYTES, zstd::stream::read::Decoder::with_buffer(file)?))
    } else if head.starts_with(&GZIP_MAGIC) {
        Box::new(BufReader::with_capacity(SNIFF_BYTES, flate2::bufread::MultiGzDecoder::new(file)))
    } else {
        Box::new(file)
    })
}

fn is_binary(path: &Path, head: &[u8]) -> bool {
    let is_text_control = |byte: &u8| matches!(byte, b'\n' | b'\r' | b'\t');
    file_name(path).contains(".k64")
        || head.iter().any(|byte| byte.is_ascii_control() && !is_text_control(byte))
}

/// Reads numbers of `N` bytes to the end of the content, at most `limit` of them.
fn read_numbers<const N: usize>(
    mut content: Box<dyn BufRead>,
    limit: usize,
    mut each: impl FnMut([u8; N]) -> anyhow::Result<u32>,
) -> anyhow::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    while numbers.len() < limit {
        let mut number = [0; N];
        if content.fill_buf()?.is_empty() {
            break;
        }
        if content.read_exact(&mut number).is_err() {
            bail!("it ends in the middle of number {}", numbers.len() + 1);
        }
        numbers.push(each(number)?);
    }
    Ok(numbers)
}

fn read_lines(
    content: Box<dyn BufRead>,
    limit: usize,
    mut each: impl FnMut(String) -> anyhow::Result<u32>,
) -> anyhow::Result<Vec<u32>> {
    let mut requests = Vec::new();
    for (index, line) in content.lines().enumerate() {
        let line = line.with_context(|| format!("line {} is not UTF-8 text", index + 1))?;
        if requests.len() == limit {
            break;
        }
        if !line.is_empty() {
            requests.push(each(line)?);
        }
    }
    Ok(requests)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// `dir/web12.k64.zst` is `web12`; whatever a key template would not take becomes a dash.
fn short_name(path: &Path) -> String {
    let name = file_name(path);
    let stem = name.split('.').find(|part| !part.is_empty()).unwrap_or("trace").to_ascii_lowercase();
    stem.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect()
}

/// The file of sizes that belongs to `NAME.k64…`, if it is there.
fn sizes_beside(path: &Path) -> Option<PathBuf> {
    let name = file_name(path);
    let sizes = path.with_file_name(name.replacen(".k64", ".s32", 1));
    (name.contains(".k64") && sizes.is_file()).then_some(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn numbers(keys: &[u64]) -> Vec<u8> {
        keys.iter().flat_map(|key| key.to_le_bytes()).collect()
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        zstd::encode_all(content, 1).unwrap()
    }

    fn read(name: &str, content: &[u8]) -> anyhow::Result<Trace> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join(name);
        std::fs::write(&path, content)?;
        Trace::read(&path, None)
    }

    #[test]
    fn every_format_gives_the_same_trace() {
        let text = b"user:9\nuser:4\n\nuser:9\r\nuser:7";
        let binary = numbers(&[900, 4, 900, 7]);
        let contents = [
            text.to_vec(),
            gzip(text),
            zstd(text),
            binary.clone(),
            gzip(&binary),
            zstd(&binary),
            [zstd(&binary[..16]), zstd(&binary[16..])].concat(),
            [gzip(&binary[..16]), gzip(&binary[16..])].concat(),
        ];
        for (index, content) in contents.iter().enumerate() {
            let trace = read("some.trace", content).unwrap();
            assert_eq!((trace.requests, trace.distinct), (vec![0, 1, 0, 2], 3), "format {index}");
        }
    }

    #[test]
    fn a_name_settles_what_the_content_leaves_open() {
        let keys = numbers(&[0x2121_2121_2121_2121, 0x2121_2121_2121_210a]);
        assert_eq!(read("a.k64", &keys).unwrap().requests, [0, 1]);
    }

    #[test]
    fn a_cut_off_trace_is_refused() {
        let whole = numbers(&[1, 2, 3]);
        assert!(read("a.k64", &whole[..20]).unwrap_err().root_cause().to_string().contains("number 3"));
        let packed = zstd(&whole);
        assert!(read("a.k64.zst", &packed[..packed.len() - 3]).is_err());
        assert!(read("empty", b"").is_err());
    }

    #[test]
    fn sizes_come_with_the_keys() {
        let folder = tempfile::tempdir().unwrap();
        let sizes: Vec<u8> = [10_u32, 20, 10, 30].iter().flat_map(|size| size.to_le_bytes()).collect();
        std::fs::write(folder.path().join("click.s32.zst"), zstd(&sizes)).unwrap();
        let path = folder.path().join("click.k64.zst");
        std::fs::write(&path, zstd(&numbers(&[0, 1, 0, 2]))).unwrap();
        assert_eq!(Trace::read(&path, None).unwrap().sizes, Some(vec![10, 20, 30]));
        let limited = Trace::read(&path, Some(2)).unwrap();
        assert_eq!((limited.requests, limited.sizes), (vec![0, 1], Some(vec![10, 20])));
        std::fs::write(folder.path().join("click.s32.zst"), zstd(&sizes[..8])).unwrap();
        assert!(Trace::read(&path, None).is_err());
        assert!(Trace::read(&folder.path().join("click.s32.zst"), None).is_err());
    }

    #[test]
    fn names_become_plain_words() {
        for (file, name) in [("x/web12.k64.zst", "web12"), ("Scarab Recs.txt", "scarab-recs"), (".gz", "gz")]
        {
            assert_eq!(short_name(Path::new(file)), name);
        }
    }
}
