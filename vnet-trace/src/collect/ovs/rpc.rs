//! JSON-RPC over a unix socket, as ovsdb-server and the daemons' control sockets speak it: one question, one answer,
//! one deadline for all of it.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::collect::unix_stream::{Timed, is_late};

/// A larger answer is not read: a database of thousands of ports fits.
const LARGEST: u64 = 32 << 20;

/// Why a daemon did not answer.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// It cannot be reached, or hung up.
    #[error("cannot talk to {socket}")]
    Talk {
        /// The socket's path.
        socket: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// It did not answer in time.
    #[error("{socket} did not answer within {milliseconds} ms")]
    Late {
        /// The socket's path.
        socket: String,
        /// How long it was given.
        milliseconds: u128,
    },
    /// It answered something else.
    #[error("{socket} does not answer in JSON-RPC")]
    Foreign {
        /// The socket's path.
        socket: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It refuses.
    #[error("{socket} refuses: {message}")]
    Refused {
        /// The socket's path.
        socket: String,
        /// Its words.
        message: String,
    },
}

/// Calls `method` and gives its result.
pub fn call(socket: &Path, method: &str, parameters: &Value, deadline: Duration) -> Result<Value, RpcError> {
    let name = || socket.display().to_string();
    let failed = |source: io::Error| {
        if is_late(&source) {
            RpcError::Late { socket: name(), milliseconds: deadline.as_millis() }
        } else {
            RpcError::Talk { socket: name(), source }
        }
    };
    let mut stream = Timed::connect(socket, Instant::now() + deadline).map_err(failed)?;
    let request = json!({ "id": 0, "method": method, "params": parameters }).to_string();
    stream.write_all(request.as_bytes()).map_err(failed)?;
    // The answer ends with its last brace; the daemon keeps the connection.
    let mut answers = serde_json::Deserializer::from_reader(stream.take(LARGEST)).into_iter::<Value>();
    let answer = loop {
        let answer = match answers.next() {
            None => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
            Some(Err(error)) if error.is_io() => return Err(failed(error.into())),
            Some(Err(source)) => return Err(RpcError::Foreign { socket: name(), source }),
            Some(Ok(answer)) => answer,
        };
        // A daemon may ask us whether we live (`echo`); we shall be gone before it minds.
        if answer.get("method").is_none() {
            break answer;
        }
    };
    match (answer.get("result"), answer.get("error")) {
        (Some(result), None | Some(Value::Null)) => Ok(result.clone()),
        (_, error) => {
            let text = error.map(|error| error.as_str().map_or_else(|| error.to_string(), str::to_owned));
            Err(RpcError::Refused { socket: name(), message: text.unwrap_or_default().trim().to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn answered(answer: &'static [u8], hang: bool) -> Result<Value, RpcError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 512];
            let _ = stream.read(&mut question).unwrap();
            stream.write_all(answer).unwrap();
            if hang {
                // Until the other side gives up.
                let _ = stream.read(&mut question);
            }
        });
        let result = call(&path, "list", &json!([]), Duration::from_millis(100));
        daemon.join().unwrap();
        result
    }

    #[test]
    fn gives_the_result_without_waiting_for_the_end() {
        assert_eq!(answered(br#"{"id":0,"result":"yes","error":null}"#, true).unwrap(), json!("yes"));
        assert_eq!(answered(br#"{"id":1,"method":"echo","params":[]}{"id":0,"result":1}"#, true).unwrap(), json!(1));
    }

    #[test]
    fn a_dead_or_hostile_daemon_is_an_error() {
        assert!(matches!(answered(b"", true), Err(RpcError::Late { .. })));
        assert!(matches!(answered(b"{\"id\":", true), Err(RpcError::Late { .. })));
        assert!(matches!(answered(b"HTTP/1.1 400", true), Err(RpcError::Foreign { .. })));
        assert!(matches!(answered(b"", false), Err(RpcError::Talk { .. })));
        assert!(matches!(answered(br#"{"id":0,"error":"no"}"#, false), Err(RpcError::Refused { .. })));
        let nobody = call(Path::new("/nonexistent"), "x", &json!([]), Duration::from_millis(100));
        assert!(matches!(nobody, Err(RpcError::Talk { .. })));
    }
}
