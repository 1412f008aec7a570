//! `ostler rpc`

use clap::Args;
use tokio::io::{AsyncWriteExt, copy, split, stdin, stdout};

use super::context::Context;
use super::exit::Exit;
use ostler_protocol::{ApiError, ErrorKind};

const EXAMPLES: &str = "\
Examples:
  echo '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"get_status\"}' | ostler rpc --stdio
  ostler rpc --stdio        for a program that embeds Ostler: requests in, responses and events out

One JSON-RPC 2.0 message per line, in both directions. `subscribe` starts an event stream; its events are sent as \
`run_event` notifications between the responses. `rpc.discover` describes all methods and events. The end of standard \
input closes the connection after the last response; the host and runs continue.";

/// Use JSON-RPC over standard input and output
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Read requests from standard input, write responses and events to standard output
    #[arg(long, required = true)]
    stdio: bool,
}

pub(super) async fn execute(context: &mut Context<'_>, _: &Arguments) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    let (mut from_host, mut to_host) = split(client.lines().await?);
    let io = |error: std::io::Error| ApiError::new(ErrorKind::Io, error.to_string());
    let requests = async {
        let mut input = stdin();
        let copied = copy(&mut input, &mut to_host).await;
        // The host answers the requests that it has received, then closes the connection.
        let _ = to_host.shutdown().await;
        copied
    };
    let answers = async {
        let mut output = stdout();
        copy(&mut from_host, &mut output).await?;
        output.flush().await
    };
    tokio::pin!(requests, answers);
    tokio::select! {
        sent = &mut requests => {
            // If the host has gone, the answers end, too.
            let _ = sent;
            answers.await.map_err(io)?;
            Ok(Exit::Done)
        }
        received = &mut answers => {
            received.map_err(io)?;
            Err(ApiError::new(ErrorKind::Io, "the host ended the connection").hint("`ostler status` says whether it is there"))
        }
    }
}
