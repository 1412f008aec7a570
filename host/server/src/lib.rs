//! The API server of the host: JSON-RPC methods and event streams over a unix socket and, if configured, TCP.
//!
//! **Transports.** [`server`] accepts connections and serves HTTP/1.1 on them. `POST /rpc` answers one frame per
//! request, `GET /events` is a stream of server-sent events, and `GET /ws` and `GET /lines` upgrade to persistent
//! connections that carry concurrent calls and event streams (`duplex`). `GET /healthz` identifies the host.
//!
//! **Calls.** `rpc` checks the size and form of a frame before it parses it, and runs the calls of a batch in order.
//! `methods` is one static table with the parameters, access class, errors and function of every method. Methods block,
//! so each call runs on a blocking thread. Errors are redacted before they are sent. The OpenRPC document (`document`)
//! and `docs/api.md` (`reference`) are generated from the same table.
//!
//! **Access.** On the unix socket, the process that connects is identified: other users and processes of a run are
//! refused. Over TCP, [`guard`] requires an access token, a known `Host` header, and no foreign `Origin`. Every call is
//! checked against the class of its peer, which can end while a connection is open, because tokens expire and can be
//! revoked.
//!
//! **Limits.** `budget` bounds the memory that large frames and unread answers of one peer occupy, `slots` the number
//! of TCP connections. `refusals` limits the rate of log entries about refused requests.
//!
//! **Event streams.** A subscriber has a cursor instead of a queue (`stream`): it reads the stored events after its
//! cursor and sleeps until there are more. A slow subscriber needs no memory, and one that reconnects misses nothing.

mod blocking;
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
