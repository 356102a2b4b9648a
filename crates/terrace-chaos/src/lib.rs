//! A fleet of real processes on a real server, ill-treated while its history is recorded and checked.
//!
//! | module | is |
//! |---|---|
//! | `fleet` | the nodes, the server, and the roads between them |
//! | `load` | clients that read and change over HTTP |
//! | [`world`] | what they change, and what they saw |
//! | [`nemesis`] | what is done to the fleet |
//! | [`chapter`] | one fault, and what came of it |
//! | [`lag`] | how long nodes return what was invalidated |
//! | [`single`] | one load per key |
//! | [`report`] | all of it as text |
//!
//! 1. The program is the built one, and is told nothing that an operator could not tell it.
//! 2. All chance comes from one seed, which every failure names. Times are those of one monotonic clock.
//! 3. What is checked are promises, never how fast a machine is.

#![forbid(unsafe_code)]

pub mod chapter;
mod dice;
mod fleet;
mod http;
pub mod lag;
mod load;
pub mod nemesis;
mod origin;
pub mod report;
pub mod single;
pub mod story;
pub mod world;

pub use dice::Dice;
pub use fleet::{Fleet, Settings, Topology};
pub use load::Intensity;
