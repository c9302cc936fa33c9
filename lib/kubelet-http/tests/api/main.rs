//! The API as the API server and its clients use it: over TLS, with a fake backend and a fake API server.

mod auth;
mod fake;
mod plain;
mod port_forward;
mod remote;
mod support;
