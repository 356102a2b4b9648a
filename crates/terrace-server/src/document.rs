//! What the service keeps under a key: a JSON text, or bytes of another media type.
//!
//! 1. JSON is kept as it always was: the codec of JSON, the text as it came. So services of a release that knows nothing else read it and
//!    are read; what has another media type is a miss to them.
//! 2. The media type is kept as it was sent, and is text that a header can have: it was checked when the document was made.
//! 3. A document knows its fingerprint: a hash of media type and bytes that is the same on every node, machine and release.

use crate::origin::{OriginError, Told};
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;
use std::sync::Arc;
use terrace::codec::{Codec, CodecId, JsonText};
use terrace::{
    CodecError, Fault, Fetched, Key, Origin, OriginAnswer, OriginTimer, OriginWrite, WriteFailure,
};

/// The media type of JSON.
pub(crate) const JSON: &str = "application/json";

/// A JSON text, or bytes of another media type.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Document {
    content: Content,
    fingerprint: u64,
}

#[derive(Clone, PartialEq, Eq)]
enum Content {
    Json(JsonText),
    Media { media: Arc<str>, bytes: Bytes },
}

impl Document {
    /// A JSON text.
    pub(crate) fn json(text: JsonText) -> Self {
        let fingerprint = fingerprint(JSON, text.as_bytes());
        Self { content: Content::Json(text), fingerprint }
    }

    /// Bytes of some media type, JSON included.
    ///
    /// # Errors
    /// [`CodecError`] if that is no media type, or is JSON and the bytes are not.
    pub(crate) fn of(media: &str, bytes: Bytes) -> Result<Self, CodecError> {
        if is_json(media) {
            return Ok(Self::json(JsonText::new(bytes)?));
        }
        if !is_media(media) {
            let reason = format!("a media type has a `/` and at most {MEDIA_BYTES_MAX} visible characters");
            return Err(CodecError::Encode { codec: NAME, reason });
        }
        let fingerprint = fingerprint(media, &bytes);
        Ok(Self { content: Content::Media { media: media.into(), bytes }, fingerprint })
    }

    /// The JSON text, if it is one.
    pub(crate) fn as_json(&self) -> Option<&JsonText> {
        match &self.content {
            Content::Json(text) => Some(text),
            Content::Media { .. } => None,
        }
    }

    pub(crate) fn media(&self) -> &str {
        match &self.content {
            Content::Json(_) => JSON,
            Content::Media { media, .. } => media,
        }
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        match &self.content {
            Content::Json(text) => text.as_bytes(),
            Content::Media { bytes, .. } => bytes,
        }
    }

    /// A hash of media type and bytes, the same everywhere.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({}, {} bytes)", self.media(), self.bytes().len())
    }
}

fn fingerprint(media: &str, bytes: &[u8]) -> u64 {
    let seed = rapidhash::v3::rapidhash_v3(media.as_bytes());
    rapidhash::v3::rapidhash_v3_seeded(bytes, &rapidhash::v3::RapidSecrets::seed_cpp(seed))
}

/// Longest media type, in bytes.
pub(crate) const MEDIA_BYTES_MAX: usize = 255;

/// Whether a media type is JSON, whatever its parameters.
fn is_json(media: &str) -> bool {
    media.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case(JSON))
}

/// Whether a text can be a media type, and a header. What is one in detail is left to those who read it.
fn is_media(media: &str) -> bool {
    let is_visible = media.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    media.len() <= MEDIA_BYTES_MAX && is_visible && media.trim() == media && media.contains('/')
}

/// Name of the codec in errors.
const NAME: &str = "media";

/// JSON as the codec of JSON has it; anything else as its media type, with the length of that before it, and its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Documents;

impl Codec<Document> for Documents {
    fn id(&self) -> CodecId {
        CodecId::JSON
    }

    fn id_of(&self, value: &Document) -> CodecId {
        if value.as_json().is_some() { CodecId::JSON } else { CodecId::MEDIA }
    }

    fn encode(&self, value: &Document) -> Result<Bytes, CodecError> {
        match &value.content {
            Content::Json(text) => Ok(text.as_bytes().clone()),
            Content::Media { media, bytes } => {
                let mut encoded = BytesMut::with_capacity(1 + media.len() + bytes.len());
                encoded.put_u8(u8::try_from(media.len()).unwrap_or(u8::MAX));
                encoded.put_slice(media.as_bytes());
                encoded.put_slice(bytes);
                Ok(encoded.freeze())
            }
        }
    }

    fn decode(&self, bytes: &Bytes) -> Result<Document, CodecError> {
        Ok(Document::json(JsonText::new(bytes.clone())?))
    }

    fn decode_by(&self, by: CodecId, bytes: &Bytes) -> Result<Document, CodecError> {
        if by == CodecId::JSON {
            return self.decode(bytes);
        }
        if by != CodecId::MEDIA {
            return Err(CodecError::Mismatch { expected: CodecId::JSON, found: by });
        }
        let no = |reason: &str| CodecError::Decode { codec: NAME, reason: reason.to_owned() };
        let length = usize::from(*bytes.first().ok_or_else(|| no("there are no bytes"))?);
        let media = bytes.get(1..=length).ok_or_else(|| no("the media type is cut off"))?;
        let media = std::str::from_utf8(media).map_err(|_| no("the media type is no text"))?;
        if is_json(media) {
            return Err(no("JSON has a codec of its own"));
        }
        Document::of(media, bytes.slice(1 + length..)).map_err(|_| no("there is no media type"))
    }

    fn weight(&self, value: &Document) -> u64 {
        value.bytes().len() as u64
    }
}

/// An origin of JSON texts, as one of documents. It takes nothing but JSON.
#[derive(Debug)]
pub(crate) struct JsonOrigin<O>(pub(crate) O);

impl<O> JsonOrigin<O> {
    fn refused() -> WriteFailure<Told> {
        WriteFailure::Refused(Told(OriginError::Refused {
            origin: "of the keyspace".into(),
            reason: "it takes nothing but JSON".to_owned(),
        }))
    }
}

impl<O: Origin<Key, JsonText, Error = Told>> Origin<Key, Document> for JsonOrigin<O> {
    type Error = Told;

    async fn load(&self, key: &Key) -> Result<Option<Document>, Told> {
        Ok(self.0.load(key).await?.map(Document::json))
    }

    async fn fetch(&self, key: &Key) -> Result<Fetched<Document>, Told> {
        Ok(self.0.fetch(key).await?.map(Document::json))
    }

    async fn fetch_again(&self, key: &Key, old: &Document) -> Result<Fetched<Document>, Told> {
        let Some(old) = old.as_json() else { return self.fetch(key).await };
        Ok(self.0.fetch_again(key, old).await?.map(Document::json))
    }

    async fn fetch_many(&self, keys: &[Key]) -> Vec<Result<Fetched<Document>, Told>> {
        let fetched = self.0.fetch_many(keys).await;
        fetched.into_iter().map(|one| Ok(one?.map(Document::json))).collect()
    }

    fn loads_together(&self) -> bool {
        self.0.loads_together()
    }

    fn can_load(&self) -> bool {
        self.0.can_load()
    }

    fn fault_of(&self, error: &Told) -> Fault {
        self.0.fault_of(error)
    }

    fn time_by(&self, timer: &OriginTimer) -> bool {
        self.0.time_by(timer)
    }

    async fn store(&self, key: &Key, value: &Document) -> Result<(), WriteFailure<Told>> {
        let Some(text) = value.as_json() else { return Err(Self::refused()) };
        self.0.store(key, text).await
    }

    async fn delete(&self, key: &Key) -> Result<(), WriteFailure<Told>> {
        self.0.delete(key).await
    }

    async fn store_many(&self, writes: &[OriginWrite<Key, Document>]) -> Vec<Result<(), WriteFailure<Told>>> {
        self.write_many(writes).await.into_iter().map(|answer| answer.made).collect()
    }

    async fn write(&self, write: &OriginWrite<Key, Document>) -> OriginAnswer<Told> {
        match as_texts(write) {
            Some(write) => self.0.write(&write).await,
            None => Err(Self::refused()).into(),
        }
    }

    async fn write_many(&self, writes: &[OriginWrite<Key, Document>]) -> Vec<OriginAnswer<Told>> {
        let texts: Vec<_> = writes.iter().map(as_texts).collect();
        let is_asked: Vec<bool> = texts.iter().map(Option::is_some).collect();
        let asked: Vec<_> = texts.into_iter().flatten().collect();
        let mut answers = self.0.write_many(&asked).await.into_iter();
        let answer = |is_asked| {
            let unanswered = || Err(WriteFailure::Unsupported).into();
            if is_asked { answers.next().unwrap_or_else(unanswered) } else { Err(Self::refused()).into() }
        };
        is_asked.into_iter().map(answer).collect()
    }
}

/// A change with its value as a JSON text; `None` if it is none.
fn as_texts(write: &OriginWrite<Key, Document>) -> Option<OriginWrite<Key, JsonText>> {
    let Some(value) = &write.value else { return Some(write.with_value(None)) };
    Some(write.with_value(Some(Arc::new(value.as_json()?.clone()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(document: &Document) -> Document {
        let bytes = Documents.encode(document).expect("it has bytes");
        Documents.decode_by(Documents.id_of(document), &bytes).expect("it is read again")
    }

    #[test]
    fn what_was_written_is_read_with_its_media_type_and_fingerprint() {
        for (media, bytes) in [
            ("application/json", &b"{\"n\":1}"[..]),
            ("application/JSON; charset=utf-8", b"[]"),
            ("application/octet-stream", b"\0\xff"),
            ("text/plain; charset=utf-8", b"hello"),
            ("application/msgpack", b""),
        ] {
            let document = Document::of(media, Bytes::from_static(bytes)).expect("a document");
            let read = again(&document);
            assert_eq!((read.media(), read.bytes()), (document.media(), document.bytes()), "{media}");
            assert_eq!(read.fingerprint(), document.fingerprint(), "{media}");
        }
    }

    #[test]
    fn json_has_the_bytes_that_it_always_had() {
        let document = Document::of(JSON, Bytes::from_static(b"{\"n\":1}")).expect("a document");
        assert_eq!(Documents.id_of(&document), CodecId::JSON);
        assert_eq!(Documents.encode(&document).expect("it has bytes"), "{\"n\":1}");
    }

    #[test]
    fn fingerprints_are_the_same_for_ever_and_tell_media_types_apart() {
        let of = |media| Document::of(media, Bytes::from_static(b"\"x\"")).expect("a document").fingerprint();
        assert_eq!(of(JSON), FINGERPRINT_OF_X);
        assert_ne!(of("text/plain"), of(JSON));
    }

    /// Nodes of other releases have to find the same.
    const FINGERPRINT_OF_X: u64 = 9_788_961_519_395_590_505;

    #[test]
    fn what_is_no_document_is_refused() {
        for media in ["", "text", "text/plain\r\nx: y", "text/\u{e9}", " text/plain", &"a/".repeat(128)] {
            assert!(Document::of(media, Bytes::new()).is_err(), "{media:?}");
        }
        assert!(Document::of(JSON, Bytes::from_static(b"{")).is_err());
        for bytes in
            [&b""[..], b"\x09text/", b"\x04text", b"\x04te\r/x", b"\x10application/json{}", b"\x02\xff/"]
        {
            assert!(
                Documents.decode_by(CodecId::MEDIA, &Bytes::copy_from_slice(bytes)).is_err(),
                "{bytes:?}"
            );
        }
        assert!(Documents.decode_by(CodecId::RAW, &Bytes::from_static(b"1")).is_err());
    }
}
