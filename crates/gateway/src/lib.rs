//! The only HTTP server and the only crate that names a status code: ingest routes, the Prometheus read API, the live
//! channel, login, admin, the embedded UI. In: [`Parts`] of the other roles. Out: a served listener. It decodes
//! nothing itself (`wire`), stores nothing (`store`), evaluates nothing (`query`); it bounds, authenticates, routes and
//! words the answers. A new way in is a row in `wire::PROTOCOLS` and one route in `ingest.rs`.
#![forbid(unsafe_code)]

mod admin;
mod answer;
mod auth;
mod body;
mod budgets;
mod cards;
mod config;
mod connection;
mod cors;
mod draft;
mod explain;
mod federate;
mod first_asked;
mod follow;
mod guesses;
mod head;
mod ingest;
mod keeping;
mod lifecycle;
mod live;
mod pace;
mod params;
mod parts;
mod pool;
mod proxies;
mod read;
mod remote_read;
mod room;
mod router;
mod self_metrics;
mod sessions;
mod slow;
mod status;
mod turns;
mod ui;
mod work;

pub use auth::{AuthMode, Token};
pub use config::{QueryConfig, ServerConfig};
pub use connection::serve;
pub use lifecycle::ReloadAsk;
pub use live::LiveHub;
pub use parts::{About, Gateway, Parts};
pub use router::{Access, INSTANCE, routes};
pub use self_metrics::exposition;
