//! Write-behind against a disk that loses, tears, refuses and damages, and against a model.

mod alone;
mod disk;
mod inspect;
mod live;
mod model;
mod once;
mod states;
mod store;
