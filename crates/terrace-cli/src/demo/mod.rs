//! The parts of `demo`: an origin, a load on the cache in front of it, and a picture of both.

pub(crate) mod load;
pub(crate) mod origin;
pub(crate) mod screen;
