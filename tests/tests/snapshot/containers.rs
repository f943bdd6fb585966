//! Containers by name: the whole program against an engine of the test's own, honest or hostile, on a socket of its own.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::{Value, json};

use super::net::sh;
use super::{Case, same};

pub const CASES: &[Case] = &[
    ("a_namespace_without_a_name_is_called_like_its_container", "", named),
    ("questions_are_asked_from_containers", "", asked),
    ("a_container_that_cannot_be_asked_from_is_an_error", "", refused),
    ("an_engine_that_hangs_or_lies_is_a_gap", "", hostile),
    ("a_container_that_ends_during_the_question_is_told", "", ended),
];

const ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A process in a namespace without a name, wired to the test's own: 10.9.0.1 here, 10.9.0.2 there. Ends when dropped.
struct Inhabitant(Child);

impl Inhabitant {
    fn start() -> Result<Self, Failed> {
        let mut child = Command::new("unshare")
            .args(["-n", "sh", "-c", "echo ready; exec sleep 60"])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut word = [0; 5];
        child.stdout.take().ok_or("no output")?.read_exact(&mut word)?;
        let inhabitant = Self(child);
        let pid = inhabitant.pid();
        sh(&format!(
            "ip link add br0 type bridge
             ip link add veth9 type veth peer name eth0 netns {pid}
             ip link set veth9 master br0 up
             ip link set br0 up
             ip addr add 10.9.0.1/24 dev br0
             nsenter -t {pid} -n ip addr add 10.9.0.2/24 dev eth0
             nsenter -t {pid} -n ip link set eth0 up"
        ))?;
        Ok(inhabitant)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Inhabitant {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An engine that answers what it is given by path, and hangs where it is given nothing. Its threads end with the test.
struct Engine {
    folder: tempfile::TempDir,
}

impl Engine {
    fn start(answers: Vec<(String, Vec<u8>)>) -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        let listener = UnixListener::bind(folder.path().join("docker.sock"))?;
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let answers = answers.clone();
                std::thread::spawn(move || {
                    let mut question = [0; 1024];
                    let read = stream.read(&mut question).unwrap_or(0);
                    let question = String::from_utf8_lossy(&question[..read]).into_owned();
                    let path = question.split(' ').nth(1).unwrap_or_default();
                    match answers.iter().find(|(known, _)| known == path) {
                        Some((_, answer)) => drop(stream.write_all(answer)),
                        None => drop(stream.read(&mut [0; 1])),
                    }
                });
            }
        });
        Ok(Self { folder })
    }

    /// One with a running container `web` whose first process is `pid`.
    fn of(pid: u32) -> Result<Self, Failed> {
        let inspected = |status: &str, pid: u32| ok(&json!({"Id": ID, "State": {"Status": status, "Pid": pid}}));
        Self::start(vec![
            (
                "/containers/json".into(),
                ok(&json!([{"Id": ID, "Names": ["/we\u{1b}b"], "HostConfig": {"NetworkMode": "default"},
                            "NetworkSettings": {"Networks": {"front": {}}}}])),
            ),
            ("/networks".into(), ok(&json!([{"Name": "front", "Driver": "bridge"}]))),
            (format!("/containers/{ID}/json"), inspected("running", pid)),
            ("/containers/web/json".into(), inspected("running", pid)),
            ("/containers/old/json".into(), inspected("exited", 0)),
            ("/containers/nobody/json".into(), b"HTTP/1.0 404 Not Found\r\n\r\n{}".to_vec()),
        ])
    }

    fn run(&self, words: &[&str]) -> Result<(Value, String), Failed> {
        let done = Command::new(tests::program())
            .args(words)
            .env("DOCKER_HOST", format!("unix://{}", self.folder.path().join("docker.sock").display()))
            .output()?;
        let error = String::from_utf8_lossy(&done.stderr).into_owned();
        Ok((serde_json::from_slice(&done.stdout).unwrap_or_default(), error))
    }
}

fn ok(body: &Value) -> Vec<u8> {
    format!("HTTP/1.0 200 OK\r\n\r\n{body}").into_bytes()
}

fn find(map: &Value, inode_of: u32) -> Result<&Value, Failed> {
    use std::os::unix::fs::MetadataExt;
    let inode = std::fs::metadata(format!("/proc/{inode_of}/ns/net"))?.ino();
    let namespaces = map["namespaces"].as_array().ok_or_else(|| format!("no map: {map}"))?;
    Ok(namespaces.iter().find(|netns| netns["inode"] == inode).ok_or("the container's namespace is missing")?)
}

fn named() -> Result<(), Failed> {
    let inhabitant = Inhabitant::start()?;
    let (map, _) = Engine::of(inhabitant.pid())?.run(&["map", "--json"])?;
    let netns = find(&map, inhabitant.pid())?;
    // A control character of the name is spelled out.
    same("name", netns["netns"].as_str(), Some("we\\u{1b}b"))?;
    same("networks", &netns["container"]["networks"], &json!(["front"]))?;
    let own = map["namespaces"][0]["devices"].as_array().ok_or("no devices")?;
    let device = |name: &str| own.iter().find(|device| device["dev"] == name).ok_or(format!("no {name}"));
    same("bridge", &device("br0")?["network"], &json!("front"))?;
    same("peer", &device("veth9")?["peer"]["netns"], &json!("we\\u{1b}b"))
}

fn asked() -> Result<(), Failed> {
    let inhabitant = Inhabitant::start()?;
    let engine = Engine::of(inhabitant.pid())?;
    for place in [["--container", "web"], ["-N", "container:web"]] {
        let (answer, error) = engine.run(&["ping", "--json", "-c", "1", place[0], place[1], "10.9.0.1"])?;
        same("verdict", answer["verdict"].as_str(), Some("delivered")).map_err(|_| error)?;
        same("netns", answer["question"]["netns"].as_str(), Some("we\\u{1b}b"))?;
    }
    Ok(())
}

fn refused() -> Result<(), Failed> {
    let inhabitant = Inhabitant::start()?;
    let engine = Engine::of(inhabitant.pid())?;
    for (name, words) in [("old", "is not running: it is exited"), ("nobody", "there is no container `nobody`")] {
        let (_, error) = engine.run(&["ping", "--container", name, "10.9.0.1"])?;
        if !(error.contains(words) && error.contains("help: ")) {
            return Err(format!("{name}: {error}").into());
        }
    }
    Ok(())
}

fn ended() -> Result<(), Failed> {
    let _inhabitant = Inhabitant::start()?;
    let asking = Command::new(tests::program())
        .args(["ping", "--json", "--patient", "-c", "200", "-i", "0.02", "-w", "10", "-W", "0.2", "10.9.0.2"])
        .stdout(Stdio::piped())
        .spawn()?;
    // Its veth goes as it does with a container's namespace, once two replies have come back.
    sh("count() { ip -s -j link show dev veth9 | tr -d ' \\n' | grep -o '\"rx\":{\"bytes\":[0-9]*,\"packets\":[0-9]*' | grep -o '[0-9]*$'; }
        began=$(count); until [ $(count) -ge $((began + 3)) ]; do :; done; ip link del veth9")?;
    let done = asking.wait_with_output()?;
    let answer: Value = serde_json::from_slice(&done.stdout)?;
    same("verdict", answer["verdict"].as_str(), Some("delivered"))?;
    let gaps = answer["gaps"].as_array().ok_or("no gaps")?;
    let told = gaps.iter().any(|gap| {
        let what = gap["what"].as_str().unwrap_or_default();
        what.contains("veth9") && what.contains("eth0") && gap["why"] == "they went away while the question was asked"
    });
    if told { Ok(()) } else { Err(format!("not told: {gaps:?}").into()) }
}

fn hostile() -> Result<(), Failed> {
    let inhabitant = Inhabitant::start()?;
    let honest = Engine::of(inhabitant.pid())?;
    let started = Instant::now();
    honest.run(&["map", "--json"])?;
    let usual = started.elapsed();
    let list = |answer: &[u8]| Engine::start(vec![("/containers/json".into(), answer.to_vec())]);
    let huge = [b"HTTP/1.0 200 OK\r\n\r\n".to_vec(), vec![b'['; 64 << 20]].concat();
    let hangs = Engine::start(Vec::new())?;
    let dead = Engine { folder: tempfile::tempdir()? };
    drop(UnixListener::bind(dead.folder.path().join("docker.sock"))?);
    let missing = Engine { folder: tempfile::tempdir()? };
    for engine in [hangs, dead, missing, list(b"\0garbage\r\n\r\n")?, list(&huge)?] {
        let started = Instant::now();
        let (map, error) = engine.run(&["map", "--json"])?;
        let took = started.elapsed();
        let netns = find(&map, inhabitant.pid()).map_err(|failed| format!("{failed:?} {error}"))?;
        same("container", &netns["container"], &Value::Null)?;
        let gaps = map["gaps"].as_array().ok_or("no gaps")?;
        if !gaps.iter().any(|gap| gap["what"] == "names of containers") {
            return Err(format!("no gap: {gaps:?}").into());
        }
        if took > usual + Duration::from_millis(800) {
            return Err(format!("took {took:?}, usually {usual:?}").into());
        }
    }
    Ok(())
}
