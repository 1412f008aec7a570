//! Reads the name that a TLS client asks for, from the first bytes that it sends.
//!
//! The parser is stricter than TLS libraries: it refuses everything that it does not understand, so that no server can
//! read another name in the same bytes. It sees the outer name of an encrypted ClientHello (ECH), which must be that of
//! the allowed host as well.

/// Bytes within which a ClientHello must be complete, record headers included. Real ones have 200 to 2,000.
pub(super) const MAX_HELLO: usize = 32 << 10;
/// Largest payload of a record (RFC 8446, 5.1).
const MAX_RECORD: usize = 1 << 14;

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// What the first bytes of a client contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hello {
    /// The start of a ClientHello; more must follow.
    Incomplete,
    /// Not TLS.
    NotTls,
    /// It starts like TLS, but is not a valid ClientHello.
    Invalid,
    /// A ClientHello, with its server name if it has one.
    Complete(Option<String>),
}

/// Parses the bytes that a client has sent so far.
pub(super) fn read(bytes: &[u8]) -> Hello {
    match bytes.get(..2.min(bytes.len())) {
        Some([] | [HANDSHAKE_RECORD]) => return Hello::Incomplete,
        Some([HANDSHAKE_RECORD, 3]) => {}
        _ => return Hello::NotTls,
    }
    let handshake = match fragments(bytes) {
        Ok(handshake) => handshake,
        Err(Malformed) => return Hello::Invalid,
    };
    let mut input = Input(&handshake);
    let Some((kind, length)) = input.message_head() else {
        let other = handshake.first().is_some_and(|kind| *kind != CLIENT_HELLO);
        return if other { Hello::Invalid } else { Hello::Incomplete };
    };
    if kind != CLIENT_HELLO || length > MAX_HELLO {
        return Hello::Invalid;
    }
    match input.0.get(..length) {
        None if bytes.len() >= MAX_HELLO => Hello::Invalid,
        None => Hello::Incomplete,
        Some(body) => client_hello(body).map_or(Hello::Invalid, Hello::Complete),
    }
}

struct Malformed;

/// The payloads of the handshake records, concatenated; the last one may be incomplete.
fn fragments(mut bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut handshake = Vec::with_capacity(bytes.len());
    loop {
        let [kind, major, _, high, low, rest @ ..] = bytes else {
            // The next record may be of another kind only once the ClientHello is complete.
            return Ok(handshake);
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if *kind != HANDSHAKE_RECORD || *major != 3 || length == 0 || length > MAX_RECORD {
            return if is_complete(&handshake) { Ok(handshake) } else { Err(Malformed) };
        }
        match rest.split_at_checked(length) {
            Some((fragment, next)) => {
                handshake.extend_from_slice(fragment);
                bytes = next;
            }
            None => {
                handshake.extend_from_slice(rest);
                return Ok(handshake);
            }
        }
    }
}

/// Whether the first handshake message is complete.
fn is_complete(handshake: &[u8]) -> bool {
    let mut input = Input(handshake);
    input.message_head().is_some_and(|(_, length)| input.0.len() >= length)
}

/// The server name of a ClientHello's body; the outer `None` if the body is malformed.
fn client_hello(body: &[u8]) -> Option<Option<String>> {
    let mut input = Input(body);
    input.take(2 + 32)?;
    let session = usize::from(input.u8()?);
    input.take(session)?;
    let ciphers = usize::from(input.u16()?);
    input.take(ciphers)?;
    let compressions = usize::from(input.u8()?);
    input.take(compressions)?;
    if session > 32 || ciphers == 0 || ciphers % 2 != 0 || compressions == 0 {
        return None;
    }
    if input.0.is_empty() {
        return Some(None);
    }
    let mut extensions = Input(input.block16()?);
    if !input.0.is_empty() {
        return None;
    }
    let mut name = None;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let content = extensions.block16()?;
        if kind == SERVER_NAME {
            if name.is_some() {
                return None;
            }
            name = Some(server_name(content)?);
        }
    }
    Some(name)
}

/// The only name of a server name extension.
fn server_name(content: &[u8]) -> Option<String> {
    let mut input = Input(content);
    let mut list = Input(input.block16()?);
    let kind = list.u8()?;
    let name = list.block16()?;
    if kind != HOST_NAME || !list.0.is_empty() || !input.0.is_empty() || name.is_empty() {
        return None;
    }
    std::str::from_utf8(name).ok().filter(|name| name.is_ascii()).map(str::to_owned)
}

/// The remaining bytes.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    fn u24(&mut self) -> Option<usize> {
        Some(usize::from(self.u8()?) << 16 | usize::from(self.u16()?))
    }

    /// Kind and length of a handshake message.
    fn message_head(&mut self) -> Option<(u8, usize)> {
        Some((self.u8()?, self.u24()?))
    }

    /// A block with a length prefix of two bytes.
    fn block16(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        self.take(length)
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    fn block16(content: &[u8]) -> Vec<u8> {
        [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &block16(content)].concat()
    }

    fn server_names(names: &[(u8, &str)]) -> Vec<u8> {
        let entries: Vec<u8> =
            names.iter().flat_map(|(kind, name)| [&[*kind][..], &block16(name.as_bytes())].concat()).collect();
        extension(SERVER_NAME, &block16(&entries))
    }

    /// A handshake message with the given extensions.
    fn message(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(32);
        body.extend([9; 32]);
        body.extend(block16(&[0x13, 1, 0x13, 2]));
        body.extend([1, 0]);
        body.extend(block16(extensions));
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[CLIENT_HELLO][..], &length[1..], &body].concat()
    }

    /// Records of at most `size` bytes each.
    fn records(message: &[u8], size: usize) -> Vec<u8> {
        message.chunks(size).flat_map(|chunk| [&[HANDSHAKE_RECORD, 3, 1][..], &block16(chunk)].concat()).collect()
    }

    /// The first bytes of a client that asks for a name, between other extensions.
    pub(crate) fn client_hello_for(name: Option<&str>) -> Vec<u8> {
        let mut extensions = extension(0x2b, &[4, 3, 4, 3, 3]);
        if let Some(name) = name {
            extensions.extend(server_names(&[(HOST_NAME, name)]));
        }
        extensions.extend(extension(0x33, &[0; 1200]));
        records(&message(&extensions), MAX_RECORD)
    }

    #[test]
    fn name_is_found_for_any_split_of_the_message() {
        let extensions = [extension(10, &[0, 2, 0, 29]), server_names(&[(0, "api.example.com")])].concat();
        let message = message(&extensions);
        let expected = Hello::Complete(Some("api.example.com".to_owned()));
        for size in [1, 2, 5, 64, MAX_RECORD] {
            let bytes = records(&message, size);
            assert_eq!(read(&bytes), expected, "{size}");
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), Hello::Incomplete, "{size} {end}");
            }
            // Later bytes are ignored.
            for more in [&[20, 3, 3, 0, 1, 1][..], &[23, 3, 3, 0, 1, 1], &[22, 3, 3], &[0xff; 40]] {
                assert_eq!(read(&[&bytes, more].concat()), expected, "{size} {more:?}");
            }
        }
    }

    #[test]
    fn name_of_real_clients_is_found() {
        let text = include_str!("../../../tests/network/client-hellos.txt");
        let mut count = 0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let [client, host, hex] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            let bytes: Vec<u8> =
                (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
            assert_eq!(read(&bytes), Hello::Complete(Some(host.to_owned())), "{client}");
            count += 1;
        }
        assert!(count >= 5);
    }

    #[test]
    fn message_without_a_name_has_none() {
        assert_eq!(read(&client_hello_for(None)), Hello::Complete(None));
        let mut old = vec![3, 1];
        old.extend([7; 32]);
        old.extend([0, 0, 2, 0, 47, 1, 0]);
        let length = u8::try_from(old.len()).unwrap();
        assert_eq!(read(&records(&[&[1, 0, 0, length][..], &old].concat(), 100)), Hello::Complete(None));
    }

    #[test]
    fn other_protocols_and_malformed_tls_are_distinguished() {
        for text in
            [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0-x", &[0x80, 0x2e, 1, 3, 1], &[22, 2], &[21, 3, 1], &[23, 3, 3]]
        {
            assert_eq!(read(text), Hello::NotTls, "{text:?}");
        }
        let names = |names: &[(u8, &str)]| records(&message(&server_names(names)), MAX_RECORD);
        let twice = [server_names(&[(0, "a.example")]), server_names(&[(0, "b.example")])].concat();
        let good = client_hello_for(Some("a.example"));
        let mut server_hello = good.clone();
        server_hello[5] = 2;
        let mut rest = message(&server_names(&[(0, "a.example")]));
        rest.extend([0, 0]);
        rest[3] += 2;
        for (what, bytes) in [
            ("two names", names(&[(0, "a.example"), (0, "b.example")])),
            ("another kind of name", names(&[(1, "a.example")])),
            ("an empty name", names(&[(0, "")])),
            ("no entry", names(&[])),
            ("a name that is not ASCII", names(&[(0, "bücher.example")])),
            ("two extensions", records(&message(&twice), MAX_RECORD)),
            ("a cut extension", records(&message(&[0, 0, 0, 9, 0]), MAX_RECORD)),
            ("another message", server_hello),
            ("bytes after the extensions", records(&rest, MAX_RECORD)),
            ("an empty record", [&[22, 3, 1, 0, 0][..], &good].concat()),
            ("too large a record", [&[22, 3, 1, 0x40, 1][..], &[1; 16]].concat()),
            ("an alert between", [&[22, 3, 1, 0, 1, 1, 21, 3, 1, 0, 2, 2, 40][..], &good].concat()),
            ("too long a message", vec![22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff]),
        ] {
            assert_eq!(read(&bytes), Hello::Invalid, "{what}");
        }
    }

    #[test]
    fn message_without_end_is_rejected() {
        let long = [&[1, 0, 0x7f, 0xff][..], &vec![0; MAX_HELLO]].concat();
        let bytes = records(&long, 100);
        assert_eq!(read(&bytes[..1000]), Hello::Incomplete);
        assert_eq!(read(&bytes[..MAX_HELLO]), Hello::Invalid);
    }

    proptest! {
        #[test]
        fn random_bytes_cause_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let _ = read(&[&[22, 3, 1][..], &bytes].concat());
            let _ = client_hello(&bytes);
            let _ = server_name(&bytes);
        }

        #[test]
        fn damaged_message_never_gives_another_name(at in 0_usize..200, value: u8) {
            let mut bytes = records(&message(&server_names(&[(0, "api.example.com")])), MAX_RECORD);
            let at = at % bytes.len();
            bytes[at] = value;
            if let Hello::Complete(Some(name)) = read(&bytes) {
                // A changed byte of the name itself, or the unchanged name.
                let differing = name.bytes().zip("api.example.com".bytes()).filter(|(a, b)| a != b).count();
                prop_assert!(name.len() == 15 && differing <= 1, "{}", name);
            }
        }
    }
}
