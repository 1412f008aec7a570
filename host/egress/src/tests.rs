//! The proxy with real sockets, on loopback only. Public hosts are listeners of the test, to which the injected [`Dial`]
//! connects instead of the public address.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use super::hello::tests::client_hello_for;
use super::{AllowList, Dial, Egress, EgressSink, Proxy, RuleSource};
use ostler_protocol::{Network, NetworkReason, NetworkVerdict};

/// The longest wait for an expected event.
const TIMEOUT: Duration = Duration::from_secs(20);
/// A public address; nothing is ever sent to it.
const PUBLIC: &str = "93.184.215.14";

struct Sink(Mutex<Sender<Network>>);

impl EgressSink for Sink {
    fn event(&self, event: Network) {
        let _ = self.0.lock().unwrap().send(event);
    }
}

/// Names with their addresses, and the listener that replaces all other machines.
#[derive(Default)]
struct FakeNetwork {
    names: HashMap<&'static str, Vec<IpAddr>>,
    stand_in: Option<SocketAddr>,
    connected: Mutex<Vec<SocketAddr>>,
}

impl Dial for FakeNetwork {
    fn look_up<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let found = self.names.get(name).cloned();
        Box::pin(async move { found.ok_or_else(|| io::Error::other("no such name")) })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<tokio::net::TcpStream>> {
        self.connected.lock().unwrap().push(address);
        let real = if address.ip().is_loopback() { Some(address) } else { self.stand_in };
        Box::pin(async move {
            match real {
                Some(real) => tokio::net::TcpStream::connect(real).await,
                None => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
            }
        })
    }
}

struct Fixture {
    address: SocketAddr,
    events: Receiver<Network>,
    proxy: Option<Proxy>,
    network: Arc<FakeNetwork>,
    _egress: Egress,
}

impl Fixture {
    fn new(entries: &[&str], source: RuleSource, network: FakeNetwork) -> Self {
        let network = Arc::new(network);
        let egress = Egress::with_dial(Arc::clone(&network) as Arc<dyn Dial>);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, events) = channel();
        let allowed = AllowList::parse(entries, source).unwrap();
        let proxy = egress.proxy(listener, Vec::new(), allowed, Arc::new(Sink(Mutex::new(sender)))).unwrap();
        Self { address, events, proxy: Some(proxy), network, _egress: egress }
    }

    fn open(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream
    }

    /// Sends a request and returns the connection with the head of the response.
    fn send(&self, request: &str) -> (TcpStream, String) {
        let mut stream = self.open();
        stream.write_all(request.as_bytes()).unwrap();
        let head = read_head(&mut stream);
        (stream, head)
    }

    fn connect(&self, target: &str) -> (TcpStream, String) {
        self.send(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"))
    }

    /// The complete response of a refusal.
    fn refusal(&self, request: &str) -> String {
        let (mut stream, head) = self.send(request);
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.trim().parse::<usize>().ok())
            .unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        head + &String::from_utf8(body).unwrap()
    }

    fn event(&self) -> Network {
        self.events.recv_timeout(TIMEOUT).expect("an event")
    }

    fn verdict(&self) -> (NetworkVerdict, Option<NetworkReason>) {
        let event = self.event();
        (event.verdict, event.reason)
    }
}

const REFUSED: fn(NetworkReason) -> (NetworkVerdict, Option<NetworkReason>) =
    |reason| (NetworkVerdict::Refused, Some(reason));
const ALLOWED: (NetworkVerdict, Option<NetworkReason>) = (NetworkVerdict::Allowed, None);

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap() == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Accepts connections and serves each with `serve` on a thread of its own.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            stream.set_read_timeout(Some(TIMEOUT)).unwrap();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Returns all bytes that it gets.
fn echo() -> SocketAddr {
    server(|mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
    })
}

/// Answers one HTTP request with the request itself.
fn mirror() -> SocketAddr {
    server(|mut stream| {
        let head = read_head(&mut stream);
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).unwrap();
        let text = format!("{head}{}", String::from_utf8_lossy(&body));
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Kept: yes\r\nKeep-Alive: timeout=5\r\nConnection: x-dropped\r\n\
             X-Dropped: no\r\n\r\n{text}",
            text.len()
        );
        let _ = stream.write_all(answer.as_bytes());
    })
}

fn public_network(stand_in: SocketAddr) -> FakeNetwork {
    FakeNetwork {
        names: HashMap::from([("api.example.com", vec![PUBLIC.parse().unwrap()])]),
        stand_in: Some(stand_in),
        connected: Mutex::default(),
    }
}

#[test]
fn loopback_port_is_forwarded_by_number() {
    let server = echo();
    let other = echo();
    let fixture = Fixture::new(&[&format!("localhost:{}", server.port())], RuleSource::Payload, FakeNetwork::default());
    for host in ["localhost", "127.0.0.1", "LOCALHOST.", "0x7f.1"] {
        let (mut stream, head) = fixture.connect(&format!("{host}:{}", server.port()));
        assert!(head.starts_with("HTTP/1.1 200"), "{host}: {head}");
        stream.write_all(b"ping").unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"ping");
        drop(stream);
        let event = fixture.event();
        assert_eq!((event.verdict, event.bytes_up, event.bytes_down), (NetworkVerdict::Allowed, 4, 4), "{event:?}");
    }
    // The form that Python and OpenSSL send.
    let (mut stream, head) = fixture.send(&format!("CONNECT localhost:{} HTTP/1.0\r\n\r\n", server.port()));
    assert!(head.contains(" 200 "), "{head}");
    stream.write_all(b"ping").unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    let (_, head) = fixture.connect(&format!("127.0.0.1:{}", other.port()));
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert_eq!(fixture.verdict(), REFUSED(NetworkReason::NotAllowed));
}

#[test]
fn refusal_names_the_host_and_the_remedy() {
    let fixture = Fixture::new(&[], RuleSource::Payload, FakeNetwork::default());
    let connect = fixture.refusal("CONNECT Evil.Example:443 HTTP/1.1\r\nHost: x\r\n\r\n");
    let plain = fixture.refusal("GET http://other.example/path HTTP/1.1\r\nHost: api.example.com\r\n\r\n");
    for (text, host) in [(&connect, "evil.example:443"), (&plain, "other.example:80")] {
        assert!(text.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{text}");
        assert!(text.contains(&format!("ostler: host {host} is not allowed for this run\n")), "{text}");
        assert!(text.contains(&format!("to allow it, add \"{host}\" to allowHosts of the run")), "{text}");
    }
    let events = [fixture.event(), fixture.event()];
    let warning = super::warning(&events[0]).unwrap();
    assert_eq!((warning.code.name(), &warning.facts["host"]), ("NETWORK_REFUSED", &"evil.example".into()));
    assert!(warning.message.contains("add \"evil.example:443\" to allowHosts"), "{}", warning.message);
    assert_eq!(
        events.map(|event| (event.host, event.port)),
        [("evil.example".to_owned(), 443), ("other.example".to_owned(), 80)]
    );
    assert!(fixture.network.connected.lock().unwrap().is_empty());
}

#[test]
fn name_with_a_forbidden_address_is_refused() {
    let address = |text: &str| vec![text.parse().unwrap()];
    let names = || {
        HashMap::from([
            ("loop.example", address("127.0.0.1")),
            ("mapped.example", address("::ffff:127.0.0.1")),
            ("meta.example", address("169.254.169.254")),
            ("link.example", address("169.254.7.7")),
            ("private.example", address("10.1.2.3")),
            ("none.example", Vec::new()),
            ("mixed.example", vec!["10.0.0.1".parse().unwrap(), PUBLIC.parse().unwrap()]),
        ])
    };
    let server = echo();
    let network = || FakeNetwork { names: names(), stand_in: Some(server), connected: Mutex::default() };
    let entries = ["*.example:8080"];
    for (source, private) in [(RuleSource::Operator, true), (RuleSource::Payload, false)] {
        let entries: Vec<String> = match source {
            RuleSource::Operator => entries.iter().map(|entry| (*entry).to_owned()).collect(),
            _ => names().keys().map(|name| format!("{name}:8080")).collect(),
        };
        let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
        let fixture = Fixture::new(&entries, source, network());
        let connect = |name: &str| {
            let (stream, head) = fixture.connect(&format!("{name}:8080"));
            drop(stream);
            (head.split(' ').nth(1).unwrap().to_owned(), fixture.verdict())
        };
        use NetworkReason::{LinkLocalAddress, LoopbackAddress, MetadataAddress, PrivateAddress, Unresolvable};
        for (name, reason) in [
            ("loop.example", LoopbackAddress),
            ("mapped.example", LoopbackAddress),
            ("meta.example", MetadataAddress),
            ("link.example", LinkLocalAddress),
        ] {
            assert_eq!(connect(name), ("403".to_owned(), REFUSED(reason)), "{name} {source:?}");
        }
        let expected = if private { ("200", ALLOWED) } else { ("403", REFUSED(PrivateAddress)) };
        assert_eq!(connect("private.example"), (expected.0.to_owned(), expected.1), "{source:?}");
        let failed = (NetworkVerdict::Failed, Some(Unresolvable));
        assert_eq!(connect("none.example"), ("502".to_owned(), failed));
        // Of several addresses, the permitted ones are used.
        assert_eq!(connect("mixed.example"), ("200".to_owned(), ALLOWED));
        let connected: Vec<String> =
            fixture.network.connected.lock().unwrap().iter().map(ToString::to_string).collect();
        let private: &[&str] = if private { &["10.1.2.3:8080", "10.0.0.1:8080"] } else { &["93.184.215.14:8080"] };
        assert_eq!(connected, private, "{source:?}");
    }
}

#[test]
fn handshake_with_another_name_is_refused() {
    let server = echo();
    // A new fixture each time: of repeated refusals, only the first is reported.
    let fixture =
        || Fixture::new(&["api.example.com", "api.example.com:8443"], RuleSource::Plugin, public_network(server));
    for port in [443, 8443] {
        let shake = |first: &[u8]| {
            let fixture = fixture();
            let (mut stream, head) = fixture.connect(&format!("api.example.com:{port}"));
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            // In two pieces: a handshake may arrive in parts.
            let (one, two) = first.split_at(first.len() / 2);
            stream.write_all(one).unwrap();
            thread::sleep(Duration::from_millis(5));
            stream.write_all(two).unwrap();
            let mut answer = vec![0; first.len().min(7)];
            stream.read_exact(&mut answer).unwrap();
            let echoed = first.starts_with(&answer);
            drop(stream);
            (echoed, fixture.event())
        };
        for name in ["api.example.com", "API.example.com", "api.example.com."] {
            let (echoed, event) = shake(&client_hello_for(Some(name)));
            assert!(echoed && event.verdict == NetworkVerdict::Allowed && event.bytes_down >= 7, "{name} {event:?}");
        }
        for (first, reason) in [
            (client_hello_for(Some("evil.example")), NetworkReason::OtherName),
            (client_hello_for(Some("api.example.com.evil.example")), NetworkReason::OtherName),
            (client_hello_for(Some("93.184.215.14")), NetworkReason::OtherName),
            (client_hello_for(None), NetworkReason::NameMissing),
            (vec![22, 3, 1, 0, 3, 2, 0, 0], NetworkReason::NotTls),
        ] {
            let (echoed, event) = shake(&first);
            assert_eq!((echoed, event.verdict, event.reason), (false, NetworkVerdict::Refused, Some(reason)));
            assert_eq!(event.bytes_up, 0, "no byte was sent");
        }
    }
    // Other protocols pass on an allowed port other than the TLS port.
    let plain = |port: u16| {
        let fixture = fixture();
        let (mut stream, _) = fixture.connect(&format!("api.example.com:{port}"));
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).unwrap();
        drop(stream);
        (answer == *b"GET / H", fixture.verdict())
    };
    assert_eq!(plain(8443), (true, ALLOWED));
    assert_eq!(plain(443), (false, REFUSED(NetworkReason::NotTls)));
}

#[test]
fn server_may_send_first_on_a_port_without_tls() {
    let server = server(|mut stream| {
        stream.write_all(b"220 ready\r\n").unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        stream.write_all(&answer).unwrap();
    });
    let fixture = Fixture::new(&[&format!("localhost:{}", server.port())], RuleSource::Payload, FakeNetwork::default());
    let (mut stream, _) = fixture.connect(&format!("localhost:{}", server.port()));
    let mut greeting = [0; 11];
    stream.read_exact(&mut greeting).unwrap();
    stream.write_all(b"EHLO").unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!((&greeting, rest.as_str()), (b"220 ready\r\n", "EHLO"));
}

#[test]
fn http_request_is_forwarded_to_the_host_of_its_url() {
    let server = mirror();
    let fixture = Fixture::new(&[&format!("localhost:{}", server.port())], RuleSource::Payload, FakeNetwork::default());
    let mut stream = fixture.open();
    // Two requests over one connection.
    for number in 0..2 {
        let request = format!(
            "POST http://localhost:{}/v1/x?y=z HTTP/1.1\r\nHost: evil.example\r\nProxy-Authorization: Basic eA==\r\n\
             Proxy-Connection: keep-alive\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX-Own: {number}\r\n\
             Content-Length: 4\r\n\r\nbody",
            server.port()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        let lower = head.to_ascii_lowercase();
        assert!(
            lower.contains("x-kept: yes") && !lower.contains("x-dropped") && !lower.contains("keep-alive"),
            "{head}"
        );
        let length: usize =
            lower.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        let seen = String::from_utf8(body).unwrap();
        let lower = seen.to_ascii_lowercase();
        assert!(seen.starts_with("POST /v1/x?y=z HTTP/1.1\r\n") && seen.ends_with("body"), "{seen}");
        assert!(lower.contains(&format!("host: localhost:{}\r\n", server.port())), "{seen}");
        assert!(lower.contains(&format!("x-own: {number}\r\n")), "{seen}");
        for gone in ["evil.example", "proxy-", "x-hop", "keep-alive"] {
            assert!(!lower.contains(gone), "{gone}: {seen}");
        }
    }
    drop(stream);
    let event = fixture.event();
    assert!(event.verdict == NetworkVerdict::Allowed && event.bytes_up > 40 && event.bytes_down > 40, "{event:?}");
}

#[test]
fn rejects_requests_that_are_not_for_a_proxy() {
    let fixture = Fixture::new(&["api.example.com", "*:80"], RuleSource::Payload, public_network(echo()));
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "400"),
        ("GET https://api.example.com/ HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("GET ftp://api.example.com/ HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("GET http://user@api.example.com/ HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("CONNECT api.example.com HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("CONNECT user@api.example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("CONNECT api%2eexample.com:443 HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("CONNECT [fe80::1%25eth0]:443 HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("CONNECT api.example.com:99999 HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("GET http://api.example.com:443/ HTTP/1.1\r\nHost: x\r\n\r\n", "403"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let (_, head) = fixture.send(request);
        assert_eq!(head.split(' ').nth(1), Some(status), "{request:?}: {head}");
    }
    assert!(fixture.network.connected.lock().unwrap().is_empty());
}

#[test]
fn too_large_headers_are_refused() {
    let fixture = Fixture::new(&[], RuleSource::Payload, FakeNetwork::default());
    let mut stream = fixture.open();
    let long = format!("GET http://a.example/ HTTP/1.1\r\nX: {}", "x".repeat(200 << 10));
    // The proxy may close before all bytes are written.
    let _ = stream.write_all(long.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431") || text.starts_with("HTTP/1.1 400"), "{text}");
}

#[test]
fn close_ends_every_connection_and_reports_the_rest() {
    let server = echo();
    let mut fixture =
        Fixture::new(&[&format!("localhost:{}", server.port())], RuleSource::Payload, FakeNetwork::default());
    let target = format!("localhost:{}", server.port());
    let mut streams: Vec<TcpStream> = (0..10).map(|_| fixture.connect(&target).0).collect();
    for stream in &mut streams {
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    for _ in 0..20 {
        assert!(fixture.connect("evil.example:443").1.starts_with("HTTP/1.1 403"));
    }
    fixture.proxy.take().unwrap().close();
    for stream in &mut streams {
        assert!(!matches!(stream.read(&mut [0]), Ok(1..)));
    }
    assert!(TcpStream::connect(fixture.address).is_err());
    // All events were reported by then.
    let events: Vec<Network> = fixture.events.try_iter().collect();
    let count = |verdict| {
        let of_it = events.iter().filter(|event| event.verdict == verdict);
        (of_it.clone().count(), of_it.map(|event| event.connections).sum::<u64>())
    };
    assert_eq!(count(NetworkVerdict::Refused), (2, 20));
    assert_eq!(count(NetworkVerdict::Allowed), (5, 10));
    assert_eq!(events.iter().map(|event| event.bytes_up).sum::<u64>(), 10);
}

#[test]
fn drop_ends_every_connection_at_once() {
    let server = echo();
    let mut fixture =
        Fixture::new(&[&format!("localhost:{}", server.port())], RuleSource::Payload, FakeNetwork::default());
    let (mut stream, _) = fixture.connect(&format!("localhost:{}", server.port()));
    let begin = Instant::now();
    drop(fixture.proxy.take());
    assert!(!matches!(stream.read(&mut [0]), Ok(1..)));
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn many_runs_are_served_by_one_thread() {
    let server = echo();
    let egress = Egress::default();
    let target = format!("localhost:{}", server.port());
    let runs: Vec<_> = (0..250)
        .map(|_| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let (sender, events) = channel();
            let allowed = AllowList::parse(&[&target], RuleSource::Payload).unwrap();
            (egress.proxy(listener, Vec::new(), allowed, Arc::new(Sink(Mutex::new(sender)))).unwrap(), address, events)
        })
        .collect();
    for (_, address, _) in &runs {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.write_all(format!("CONNECT {target} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 200"));
        stream.write_all(b"ping").unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
    }
    let threads = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "egress"));
    // Other tests of this process have their own; the look-up threads come and go.
    assert!(threads.count() < 100);
    for (proxy, ..) in runs {
        proxy.close();
    }
}

/// Prints the cost of a request over the proxy. Run it with `--run-ignored all --no-capture`.
#[test]
#[ignore = "prints figures"]
fn measure_the_cost_of_a_request() {
    const ROUNDS: u32 = 2000;
    let server = mirror();
    let fixture = Fixture::new(&[&format!("localhost:{}", server.port())], RuleSource::Payload, FakeNetwork::default());
    let mut times = Vec::new();
    let mut time = |name: &str, request: &dyn Fn() -> TcpStream, path: String| {
        times.clear();
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            let mut stream = request();
            let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(text.as_bytes()).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
            times.push(begin.elapsed());
        }
        times.sort();
        println!("{name:<24} p50 {:?}, p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
    };
    time("direct", &|| TcpStream::connect(server).unwrap(), "/".to_owned());
    time("over CONNECT", &|| fixture.connect(&server.to_string()).0, "/".to_owned());
    time("over an http:// URL", &|| fixture.open(), format!("http://{server}/"));
}
