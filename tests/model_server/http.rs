//! The part of HTTP/1.1 that agent CLIs need from a server.

use serde_json::Value;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

const MAX_HEAD: u64 = 64 * 1024;
const MAX_BODY: u64 = 32 * 1024 * 1024;
/// A connection without data is closed after this time.
const TIMEOUT: Duration = Duration::from_secs(60);

pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// The first header with this name, which is in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

/// Writes the response.
pub(super) struct Response(TcpStream);

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed request: {what}"))
}

/// Reads one request.
pub(super) fn receive(stream: TcpStream) -> io::Result<(Request, Response)> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    let mut response = Response(stream.try_clone()?);
    let mut reader = BufReader::new(stream);
    let mut head = (&mut reader).take(MAX_HEAD);
    let mut line = String::new();
    head.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Err(malformed("request line")) };
    let mut request =
        Request { method: method.to_owned(), path: path.to_owned(), headers: Vec::new(), body: Vec::new() };
    loop {
        let mut line = String::new();
        head.read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Err(malformed("head too long"));
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if request.header("expect").is_some() {
        response.0.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    request.body = match (request.header("content-length"), request.header("transfer-encoding")) {
        (Some(length), _) => {
            let length: u64 = length.parse().map_err(|_| malformed("content-length"))?;
            if length > MAX_BODY {
                return Err(malformed("body too long"));
            }
            let mut body = Vec::new();
            (&mut reader).take(length).read_to_end(&mut body)?;
            body
        }
        (None, Some(encoding)) if encoding.eq_ignore_ascii_case("chunked") => chunked(&mut reader)?,
        _ => Vec::new(),
    };
    Ok((request, response))
}

fn chunked(reader: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.take(1024).read_line(&mut line)?;
        let size = line.trim().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).map_err(|_| malformed("chunk size"))?;
        if body.len() as u64 + size > MAX_BODY {
            return Err(malformed("body too long"));
        }
        reader.take(size).read_to_end(&mut body)?;
        reader.take(2).read_line(&mut line)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

impl Response {
    /// A whole document.
    pub(super) fn json(&mut self, status: u16, document: &Value) -> io::Result<()> {
        self.json_after(status, None, document)
    }

    /// The same with the seconds after which to try again.
    pub(super) fn json_after(&mut self, status: u16, retry_after: Option<u64>, document: &Value) -> io::Result<()> {
        let body = document.to_string();
        let retry = retry_after.map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {status} {}\r\ncontent-type: application/json\r\n{retry}content-length: {}\r\nconnection: close\r\n\r\n",
            reason(status),
            body.len()
        );
        self.0.write_all(head.as_bytes())?;
        self.0.write_all(body.as_bytes())
    }

    /// Begins a stream of server-sent events; it ends when the connection is closed.
    pub(super) fn begin_events(&mut self) -> io::Result<()> {
        self.0.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\nconnection: close\r\n\r\n",
        )
    }

    /// One event, named by its own `type`.
    pub(super) fn event(&mut self, data: &Value) -> io::Result<()> {
        let name = data.get("type").and_then(Value::as_str).unwrap_or("message");
        self.0.write_all(format!("event: {name}\ndata: {data}\n\n").as_bytes())
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        529 => "Overloaded",
        _ => "Scripted",
    }
}
