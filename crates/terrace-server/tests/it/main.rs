//! The service, over real sockets.

mod attacks;
mod auth;
mod authority;
mod bad_input;
mod config;
mod connections;
mod environment;
mod events;
mod fuzz;
mod hot;
mod http_api;
mod http_origin;
mod l2;
mod limits;
mod log;
mod overview;
mod postgres;
mod secrets;
mod shapes;
mod sqlite;
mod strategies;
mod strategies_config;
mod strategies_postgres;
mod support;
mod tenants;
mod tls;
