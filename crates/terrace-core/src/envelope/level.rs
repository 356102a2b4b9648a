//! How hard does zstd try?
//!
//! 1. From [`CompressionLevel::FASTEST`] to [`CompressionLevel::MAX`], and nothing else can be made.
//! 2. Up to 19 no frame has a window of more than 8 MiB, which is what every decoder of zstd should be able to read (RFC 8878, 3.1.1.1.2). From 20 on
//!    frames of large values have one of up to 128 MiB: readers of L2 in other languages may refuse these.

use std::fmt;

/// How hard zstd tries to make a payload short: from 1, the default, to 19. Readers need not know it.
///
/// # Examples
/// ```
/// use terrace_core::envelope::{Compression, CompressionLevel};
/// let harder = Compression::zstd_at(CompressionLevel::new(9)?);
/// assert_eq!(harder.level.get(), 9);
/// assert!(CompressionLevel::new(20).is_err());
/// # Ok::<(), terrace_core::envelope::CompressionLevelError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CompressionLevel(u8);

/// A number that is no [`CompressionLevel`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "zstd has levels from 1 to 19 here, and {found} is none: from 20 on not every reader can read large values"
)]
pub struct CompressionLevelError {
    /// The number.
    pub found: u8,
}

impl CompressionLevel {
    /// Half the time of level 3 for the same size on cache values: 1.
    pub const FASTEST: Self = Self(1);
    /// The last whose frames every reader can read: 19.
    pub const MAX: Self = Self(19);

    /// The level of a number.
    ///
    /// # Errors
    /// [`CompressionLevelError`] for a number that is not from 1 to 19.
    pub const fn new(level: u8) -> Result<Self, CompressionLevelError> {
        if level < Self::FASTEST.0 || level > Self::MAX.0 {
            return Err(CompressionLevelError { found: level });
        }
        Ok(Self(level))
    }

    /// Its number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for CompressionLevel {
    /// [`CompressionLevel::FASTEST`].
    fn default() -> Self {
        Self::FASTEST
    }
}

impl fmt::Display for CompressionLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
