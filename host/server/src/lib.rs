//! What clients talk to: the methods, the transports that carry them, and the client that the command line uses.

mod budget;
mod document;
mod duplex;
pub mod guard;
mod http;
mod lines;
mod methods;
mod peer;
mod portable;
#[cfg(test)]
mod reference;
mod refusals;
mod rpc;
pub mod server;
mod settings_schema;
mod slots;
mod stream;
mod websocket;
