//! The built program, run as a person or a script runs it.

mod behind;
mod chaos;
mod check;
mod clients;
mod demo;
mod exits;
mod fleet;
mod guide;
mod http;
mod journal;
mod operate;
mod process;
mod replay;
mod replay_redis;
mod serve;
mod talk;
mod tls;
#[cfg(feature = "otlp")]
mod traces;
mod verbs;
mod warm;
