//! What clients talk to: the methods, the transports that carry them, and the client that the command line uses.

pub mod client;
mod document;
mod duplex;
pub mod guard;
mod http;
mod lines;
mod methods;
#[cfg(test)]
mod reference;
mod rpc;
pub mod server;
mod stream;
pub mod types;
mod websocket;
