//! One GET over a unix socket.
//!
//! It asks in HTTP/1.0, so that an answer is a head, an empty line, and a body that ends with the connection or after
//! Content-Length bytes (RFC 9112 §6.3). Chunks are never sent to such a client (§6.1), and are not understood here.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Instant;

use crate::collect::unix_stream::{Timed, is_late};

/// A longer head is no head.
const LONGEST_HEAD: usize = 16 << 10;
/// A larger body is not read: some thousand containers fit.
const LARGEST: usize = 8 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// There is no such socket.
    #[error("there is no socket {socket}")]
    Missing {
        /// The socket's path.
        socket: String,
    },
    /// It cannot be reached, or hung up.
    #[error("cannot talk to {socket}")]
    Talk {
        /// The socket's path.
        socket: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// It did not answer in time.
    #[error("{socket} did not answer in time")]
    Late {
        /// The socket's path.
        socket: String,
    },
    /// It answered something else.
    #[error("{socket} does not answer in HTTP")]
    Foreign {
        /// The socket's path.
        socket: String,
    },
    /// It does not stop talking.
    #[error("{socket} answered more than {LARGEST} bytes")]
    Huge {
        /// The socket's path.
        socket: String,
    },
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200 is good.
    pub status: u16,
    /// What follows the head.
    pub body: Vec<u8>,
}

/// What is in a head.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Bytes of the head with its empty line.
    size: usize,
    /// Content-Length.
    length: Option<usize>,
}

/// Asks for `path`. Everything is over at `end`.
pub fn get(socket: &Path, path: &str, end: Instant) -> Result<Reply, HttpError> {
    let name = || socket.display().to_string();
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => HttpError::Missing { socket: name() },
        _ if is_late(&source) => HttpError::Late { socket: name() },
        _ => HttpError::Talk { socket: name(), source },
    };
    let foreign = || HttpError::Foreign { socket: name() };
    let mut stream = Timed::connect(socket, end).map_err(failed)?;
    let question = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n\r\n");
    stream.write_all(question.as_bytes()).map_err(failed)?;

    let mut answer = Vec::new();
    let mut part = vec![0; 64 << 10];
    let mut head: Option<Head> = None;
    loop {
        if let Some(Head { size, length: Some(length), .. }) = head
            && answer.len() >= size.saturating_add(length)
        {
            break;
        }
        let read = match stream.read(&mut part) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        answer.extend_from_slice(part.get(..read).unwrap_or_default());
        if head.is_none() {
            head = parse(&answer).map_err(|Nonsense| foreign())?;
        }
        if answer.len() > LARGEST {
            return Err(HttpError::Huge { socket: name() });
        }
    }
    let head = head.ok_or_else(foreign)?;
    let end = head.length.map_or(answer.len(), |length| head.size.saturating_add(length));
    // A body that was cut off is none.
    let body = answer.get(head.size..end).ok_or_else(foreign)?;
    Ok(Reply { status: head.status, body: body.to_vec() })
}

/// It is no HTTP.
#[derive(Debug, PartialEq, Eq)]
struct Nonsense;

/// Reads the head of an answer; None as long as more of it must come.
fn parse(answer: &[u8]) -> Result<Option<Head>, Nonsense> {
    const START: &[u8] = b"HTTP/1.";
    let common = answer.len().min(START.len());
    if answer.get(..common) != START.get(..common) {
        return Err(Nonsense);
    }
    let Some(size) = answer.windows(4).take(LONGEST_HEAD).position(|window| window == b"\r\n\r\n") else {
        return if answer.len() > LONGEST_HEAD { Err(Nonsense) } else { Ok(None) };
    };
    let head = answer.get(..size).and_then(|head| std::str::from_utf8(head).ok()).ok_or(Nonsense)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let mut length = None;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse().map_err(|_| Nonsense)?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Nonsense);
        }
    }
    Ok(Some(Head { status: status.ok_or(Nonsense)?, size: size + 4, length }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{any, proptest};

    use super::*;
    use crate::collect::containers::tests::{Then, serve};

    fn answered(answer: Vec<u8>, then: Then) -> Result<Reply, HttpError> {
        let server = serve(move |_| answer.clone(), then);
        get(server.socket(), "/x", Instant::now() + Duration::from_millis(150))
    }

    #[test]
    fn reads_bodies_with_and_without_a_length() {
        let with = answered(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n[]more".to_vec(), Then::Hang).unwrap();
        assert_eq!(with, Reply { status: 200, body: b"[]".to_vec() });
        let without = answered(b"HTTP/1.0 404 Not Found\r\nServer: x\r\n\r\n{}".to_vec(), Then::Close).unwrap();
        assert_eq!(without, Reply { status: 404, body: b"{}".to_vec() });
    }

    #[test]
    fn a_dead_or_hostile_server_is_an_error() {
        let talks = |answer: &[u8], then| answered(answer.to_vec(), then);
        assert!(matches!(talks(b"", Then::Hang), Err(HttpError::Late { .. })));
        assert!(matches!(talks(b"HTTP/1.0 200 OK\r\n", Then::Hang), Err(HttpError::Late { .. })));
        assert!(matches!(talks(b"", Then::Close), Err(HttpError::Foreign { .. } | HttpError::Talk { .. })));
        assert!(matches!(talks(b"SSH-2.0-x\r\n", Then::Hang), Err(HttpError::Foreign { .. })));
        assert!(matches!(talks(b"HTTP/1.1 yes\r\n\r\n", Then::Close), Err(HttpError::Foreign { .. })));
        assert!(matches!(
            talks(b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\n{}", Then::Close),
            Err(HttpError::Foreign { .. })
        ));
        assert!(matches!(
            talks(b"HTTP/1.0 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n{}", Then::Close),
            Err(HttpError::Foreign { .. })
        ));
        let mut head = b"HTTP/1.0 200 OK\r\n".to_vec();
        head.extend(std::iter::repeat_n(b'x', LONGEST_HEAD + 1));
        assert!(matches!(answered(head, Then::Hang), Err(HttpError::Foreign { .. })));
        let nobody = get(Path::new("/nonexistent"), "/x", Instant::now() + Duration::from_millis(100));
        assert!(matches!(nobody, Err(HttpError::Missing { .. })));
    }

    #[test]
    fn a_server_that_never_stops_is_left() {
        let mut answer = b"HTTP/1.0 200 OK\r\n\r\n".to_vec();
        answer.resize(LARGEST + (1 << 20), b' ');
        let server = serve(move |_| answer.clone(), Then::Close);
        let huge = get(server.socket(), "/x", Instant::now() + Duration::from_secs(5));
        assert!(matches!(huge, Err(HttpError::Huge { .. })));
    }

    #[test]
    fn a_server_that_drips_is_left_at_the_deadline() {
        let begun = Instant::now();
        let dripped = answered(b"HTTP/1.0 200 OK\r\n\r\n".to_vec(), Then::Drip);
        assert!(matches!(dripped, Err(HttpError::Late { .. })), "{dripped:?}");
        assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_parser(bytes: Vec<u8>, tail in any::<Vec<u8>>()) {
            let _ = parse(&bytes);
            let mut answer = b"HTTP/1.1 200 OK\r\n".to_vec();
            answer.extend(tail);
            let _ = parse(&answer);
        }
    }
}
