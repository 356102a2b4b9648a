//! Values without their type.
//!
//! The read path, the write path and L1 are compiled once, over values whose type only the typed
//! [`crate::Keyspace`] knows. A namespace has one value type for its whole life (the registry of keyspaces sees to
//! that), so the way back never fails.

use bytes::Bytes;
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use terrace_core::codec::CodecId;
use terrace_core::{Codec, CodecError};

/// A value of some type.
pub(crate) type Erased = Arc<dyn Any + Send + Sync>;

/// The value with its type back.
#[inline]
pub(crate) fn typed<V: Any + Send + Sync>(value: Erased) -> Arc<V> {
    value
        .downcast()
        .unwrap_or_else(|_| unreachable!("a namespace has one value type, checked when it is opened"))
}

/// One more reference to the value, with its type back.
#[inline]
pub(crate) fn typed_clone<V: Any + Send + Sync>(value: &Erased) -> Arc<V> {
    terrace_memory::downcast_clone(value)
        .unwrap_or_else(|| unreachable!("a namespace has one value type, checked when it is opened"))
}

/// How the values of one namespace become bytes, and how much they weigh.
pub(crate) trait ValueFormat: Send + Sync {
    fn codec(&self) -> CodecId;
    fn codec_name(&self) -> String;
    /// Which codec writes this value.
    fn codec_of(&self, value: &Erased) -> CodecId;
    fn encode(&self, value: &Erased) -> Result<Bytes, CodecError>;
    /// Reads what the keyspace's codec wrote under this name.
    fn decode_by(&self, by: CodecId, bytes: &Bytes) -> Result<Erased, CodecError>;
    #[cfg(feature = "journal")]
    fn decode(&self, bytes: &Bytes) -> Result<Erased, CodecError> {
        self.decode_by(self.codec(), bytes)
    }
    /// Bytes of the value: by the keyspace's weigher if it has one, else the length of the encoding if that is known,
    /// else by the codec if it has to be exact, else the size of the type.
    fn weigh(&self, value: &Erased, encoded: Option<usize>, is_exact: bool) -> u64;
}

/// A user's function from a value to its weight in bytes.
pub(crate) type Weigher<V> = Box<dyn Fn(&V) -> u64 + Send + Sync>;

/// The format of values of type `V`.
pub(crate) struct Format<V, C> {
    codec: C,
    weigher: Option<Weigher<V>>,
    value: PhantomData<fn() -> V>,
}

impl<V, C> Format<V, C> {
    pub(crate) fn new(codec: C, weigher: Option<Weigher<V>>) -> Self {
        Self { codec, weigher, value: PhantomData }
    }
}

fn borrowed<V: Any>(value: &Erased) -> &V {
    value
        .downcast_ref()
        .unwrap_or_else(|| unreachable!("a namespace has one value type, checked when it is opened"))
}

impl<V: Any + Send + Sync, C: Codec<V>> ValueFormat for Format<V, C> {
    fn codec(&self) -> CodecId {
        self.codec.id()
    }

    fn codec_name(&self) -> String {
        self.codec.name()
    }

    fn encode(&self, value: &Erased) -> Result<Bytes, CodecError> {
        self.codec.encode(borrowed(value))
    }

    fn codec_of(&self, value: &Erased) -> CodecId {
        self.codec.id_of(borrowed(value))
    }

    fn decode_by(&self, by: CodecId, bytes: &Bytes) -> Result<Erased, CodecError> {
        Ok(Arc::new(self.codec.decode_by(by, bytes)?))
    }

    fn weigh(&self, value: &Erased, encoded: Option<usize>, is_exact: bool) -> u64 {
        match (&self.weigher, encoded) {
            (Some(weigher), _) => weigher(borrowed(value)),
            (None, Some(bytes)) => bytes as u64,
            (None, None) if is_exact => self.codec.weight(borrowed(value)),
            (None, None) => size_of::<V>() as u64,
        }
    }
}

/// The codec of values that never leave the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opaque;

impl Opaque {
    const NAME: &'static str = "opaque";
    pub(crate) const ID: CodecId = CodecId(0);
}

impl<V> Codec<V> for Opaque {
    fn id(&self) -> CodecId {
        Self::ID
    }

    fn encode(&self, _: &V) -> Result<Bytes, CodecError> {
        Err(CodecError::Encode { codec: Self::NAME, reason: "the keyspace is memory-only".into() })
    }

    fn decode(&self, _: &Bytes) -> Result<V, CodecError> {
        Err(CodecError::Decode { codec: Self::NAME, reason: "the keyspace is memory-only".into() })
    }

    fn weight(&self, _: &V) -> u64 {
        size_of::<V>() as u64
    }
}

impl fmt::Debug for dyn ValueFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValueFormat(codec {})", self.codec().0)
    }
}
