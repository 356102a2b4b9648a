//! The examples run, and print what they say that they do.

#[path = "../../batch.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod batch;
#[path = "../../objects.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod objects;
#[path = "../../outage.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod outage;
#[path = "../../postgres.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod postgres;
#[path = "../../sqlite.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod sqlite;
#[path = "../../warming.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod warming;

mod databases;
mod printed;
