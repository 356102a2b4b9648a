//! Stub.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Dials { pub(crate) small_percent: u8, pub(crate) ghost_ways: u8, pub(crate) promote_hits: u8 }
#[derive(Debug)]
pub(crate) struct Sampler;
impl Sampler {
    pub(crate) fn new(_: usize) -> Self { Self }
    pub(crate) fn samples(&self, _: u64) -> bool { false }
    pub(crate) fn note(&self, _: u64) {}
    pub(crate) fn wake(&self) {}
    pub(crate) fn dials(&self) -> Dials { Dials { small_percent: 10, ghost_ways: 4, promote_hits: 1 } }
    pub(crate) fn resize(&self, _: usize) {}
}
