//! The ways to call a host, behind one trait.

use crate::support::duplex::{Duplex, Peer};
use crate::support::{CallError, Endpoint, call, stored_events};
use serde_json::{Value, json};
use std::path::PathBuf;

/// A way to call a host.
pub trait Channel {
    /// Calls a method; the error is the whole JSON-RPC error.
    fn call(&mut self, method: &str, params: &Value) -> Result<Value, Value>;
    /// Every event that is stored.
    fn events(&mut self) -> Vec<Value>;
    /// Whether the connection stays open, so that it can carry event streams.
    fn stays(&self) -> bool;
}

/// A separate request for each call.
pub enum Http {
    /// To the socket.
    Socket(PathBuf),
    /// To the port.
    Port { address: String, token: String },
}

impl Http {
    fn endpoint(&self) -> Endpoint<'_> {
        match self {
            Self::Socket(path) => Endpoint::Socket(path),
            Self::Port { address, token } => Endpoint::Port { address, token },
        }
    }
}

impl Channel for Http {
    fn call(&mut self, method: &str, params: &Value) -> Result<Value, Value> {
        call(self.endpoint(), method, params).map_err(|error| match error {
            CallError::Answer(error) => error,
            CallError::Io(error) => panic!("{method}: {error}"),
        })
    }

    fn events(&mut self) -> Vec<Value> {
        stored_events(self.endpoint(), "after=0")
    }

    fn stays(&self) -> bool {
        false
    }
}

impl<D: Duplex> Channel for Peer<D> {
    fn call(&mut self, method: &str, params: &Value) -> Result<Value, Value> {
        let id = self.begin(method, params.clone());
        let mut answer = self.answer(id);
        if answer["error"].is_null() { Ok(answer["result"].take()) } else { Err(answer["error"].take()) }
    }

    fn events(&mut self) -> Vec<Value> {
        let last = self.call("get_status", json!({}))["cursor"].as_u64().unwrap();
        let stream = self.call("subscribe", json!({ "after": 0 }))["subscriptionId"].clone();
        let mut events = Vec::new();
        while events.last().is_none_or(|event: &Value| event["cursor"].as_u64().unwrap() < last) {
            let mut event = self.event().expect("the connection ended");
            if event["subscriptionId"] == stream {
                // The number of the stream is not part of the event.
                event.as_object_mut().unwrap().remove("subscriptionId");
                events.push(event);
            }
        }
        self.call("unsubscribe", json!([stream]));
        events
    }

    fn stays(&self) -> bool {
        true
    }
}
