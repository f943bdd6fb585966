//! Engines that are not there, lie, hang and talk too much.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::collect::netns::Handle;

/// What a server does after its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Close,
    Hang,
    Drip,
}

/// A server on a socket of its own; ends when dropped.
pub struct Server {
    folder: tempfile::TempDir,
    over: Arc<AtomicBool>,
}

impl Server {
    pub fn socket(&self) -> &'static Path {
        Box::leak(self.folder.path().join("docker.sock").into_boxed_path())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = std::os::unix::net::UnixStream::connect(self.folder.path().join("docker.sock"));
    }
}

/// Serves whole answers by the path that is asked for.
pub fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static, then: Then) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("docker.sock")).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&over);
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if seen.load(Ordering::Relaxed) {
                return;
            }
            let (mut stream, answer) = (stream.unwrap(), Arc::clone(&answer));
            std::thread::spawn(move || {
                let mut question = [0; 2048];
                let read = stream.read(&mut question).unwrap_or(0);
                let question = String::from_utf8_lossy(&question[..read]).into_owned();
                let _ = stream.write_all(&answer(question.split(' ').nth(1).unwrap_or_default()));
                match then {
                    Then::Close => {}
                    // Until the other side gives up.
                    Then::Hang => drop(stream.read(&mut [0; 1])),
                    Then::Drip => {
                        while stream.write_all(b" ").is_ok() {
                            std::thread::sleep(Duration::from_millis(5));
                        }
                    }
                }
            });
        }
    });
    Server { folder, over }
}

/// A good answer.
fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// An engine with one container whose first process is this one.
fn engine(name: &'static str) -> Server {
    serve(
        move |path| match path {
            "/containers/json" => ok(&serde_json::json!([
                {"Id": ID, "Names": ["/other/alias", format!("/{name}")], "HostConfig": {"NetworkMode": "default"},
                 "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
                 "Labels": {"io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.name": "web-0"}},
                {"Id": "feed", "Names": ["/on-host"], "HostConfig": {"NetworkMode": "host"}},
            ])
            .to_string()),
            "/networks" => ok(
                r#"[{"Name": "bridge", "Driver": "bridge", "Scope": "local", "Id": "0123456789abcdef", "Internal": true, "Options": {"x": "y"}}]"#,
            ),
            path if path == format!("/containers/{ID}/json") => {
                ok(&serde_json::json!({"Id": ID, "State": {"Running": true, "Pid": std::process::id()}}).to_string())
            }
            _ => b"HTTP/1.0 404 Not Found\r\n\r\n{}".to_vec(),
        },
        Then::Close,
    )
}

/// A namespace called `host`, and this process's as one without a name.
fn members() -> Vec<Candidate> {
    let own = Handle::own().unwrap();
    let bare =
        Candidate { handle: own.clone(), name: None, path: None, pids: Vec::new(), container: None, called: None };
    vec![Candidate { handle: own.with_inode(0), name: Some("host".into()), ..bare.clone() }, bare]
}

#[test]
fn networks_are_told_with_their_options() {
    let mut named = name_by(&[engine("web").socket().to_owned()], &members());
    let network = named.networks().remove(0);
    assert_eq!((network.engine.as_str(), network.name.as_str()), ("docker", "bridge"));
    assert_eq!((network.bridge.as_deref(), network.internal), (Some("br-0123456789ab"), true));
    assert_eq!(network.options.get("x").map(String::as_str), Some("y"));
}

/// What the one without a name is called in the end.
fn christened(server: &Server) -> (Netns, Vec<Gap>) {
    let mut members = members();
    let named = name_by(&[server.socket().to_owned()], &members);
    let mut namespaces = vec![Netns::default(), Netns { name: "pid:7".into(), ..Netns::default() }];
    let gaps = named.christen(&mut members, &mut namespaces);
    (namespaces.swap_remove(1), gaps)
}

#[test]
fn a_namespace_is_called_like_its_container() {
    let (netns, gaps) = christened(&engine("web"));
    assert_eq!(gaps, []);
    assert_eq!(netns.name, "web");
    let container = netns.container.unwrap();
    assert_eq!((container.engine.as_str(), container.id.as_str(), container.name.as_str()), ("docker", ID, "web"));
    assert_eq!(container.networks, [("bridge".to_owned(), "bridge".to_owned())]);
    assert_eq!(container.pod.as_deref(), Some("shop/web-0"));
}

#[test]
fn a_name_that_is_taken_gets_its_engine() {
    let (netns, _) = christened(&engine("host"));
    assert_eq!(netns.name, "docker:host");
}

#[test]
fn names_cannot_act_on_a_terminal() {
    let (netns, _) = christened(&engine("w\u{1b}[2Jeb\u{202e}"));
    assert_eq!(netns.name, "w\\u{1b}[2Jeb\\u{202e}");
}

#[test]
fn a_dead_or_hostile_engine_is_a_gap_within_the_deadline() {
    let cases: [(&str, Server); 7] = [
        ("in time", serve(|_| Vec::new(), Then::Hang)),
        ("in time", serve(|_| b"HTTP/1.0 200 OK\r\n\r\n[".to_vec(), Then::Drip)),
        ("in HTTP", serve(|_| b"\0\xff\xfe garbage".to_vec(), Then::Hang)),
        ("in another way", serve(|_| ok("{\"what\": 1}"), Then::Close)),
        ("in another way", serve(|_| ok(&"[".repeat(100_000)), Then::Close)),
        ("status 500", serve(|_| b"HTTP/1.0 500 Oops\r\n\r\n".to_vec(), Then::Close)),
        ("", serve(|_| [b"HTTP/1.0 200 OK\r\n\r\n".to_vec(), vec![b' '; 32 << 20]].concat(), Then::Hang)),
    ];
    for (words, server) in cases {
        let begun = Instant::now();
        let (netns, gaps) = christened(&server);
        let took = begun.elapsed();
        assert_eq!((netns.name.as_str(), netns.container), ("pid:7", None));
        assert!(matches!(&gaps[..], [gap] if gap.why.contains(words)), "{words}: {gaps:?}");
        assert!(took < DEADLINE + Duration::from_millis(150), "{words}: {took:?}");
    }
}

#[test]
fn a_socket_that_nobody_listens_on_is_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    drop(UnixListener::bind(&path).unwrap());
    let named = name_by(&[path, "/nonexistent".into()], &members());
    assert!(matches!(&named.gaps[..], [gap] if gap.why.contains("refused")), "{:?}", named.gaps);
}

#[test]
fn an_engine_that_hangs_does_not_keep_the_other_from_being_heard() {
    let (hangs, works) = (serve(|_| Vec::new(), Then::Hang), engine("web"));
    let named = name_by(&[hangs.socket().to_owned(), works.socket().to_owned()], &members());
    assert_eq!((named.containers.len(), named.gaps.len()), (1, 1));
}

#[test]
fn engines_are_asked_only_where_a_name_is_missing() {
    let mut members = members();
    assert!(are_wanted(&members));
    members[1].name = Some("ns1".into());
    assert!(!are_wanted(&members));
}

/// An engine that says this of the only container it knows, `c.1`.
fn inspected(body: serde_json::Value) -> Server {
    serve(
        move |path| match path {
            "/containers/c.1/json" => ok(&body.to_string()),
            _ => b"HTTP/1.0 404 Not Found\r\n\r\n{\"message\":\"No such container\"}".to_vec(),
        },
        Then::Close,
    )
}

fn found(server: &Server, name: &str) -> Result<Found, ContainerError> {
    find_by(&[server.socket().to_owned()], name)
}

#[test]
fn finds_the_first_process_of_a_container() {
    let server = inspected(serde_json::json!({"State": {"Status": "running", "Pid": 42}}));
    assert_eq!(found(&server, "c.1").unwrap(), Found { pid: 42 });
    for name in ["c", "", "../c.1", "c.1/json", "c 1\r\n"] {
        assert!(matches!(found(&server, name), Err(ContainerError::Missing { .. })), "{name:?}");
    }
}

#[test]
fn a_container_that_does_not_run_is_said_so() {
    let server = inspected(serde_json::json!({"State": {"Status": "exited", "Pid": 0}}));
    let error = found(&server, "c.1").unwrap_err();
    assert_eq!(error.to_string(), "container c.1 is not running: it is exited");
}

#[test]
fn no_engine_is_said_so_and_hostile_ones_too() {
    let error = find_by(&["/nonexistent/docker.sock".into()], "web").unwrap_err();
    assert_eq!(error.to_string(), "no container engine listens on /nonexistent/docker.sock");
    let garbage = found(&inspected(serde_json::json!([1, 2])), "c.1");
    assert!(matches!(garbage, Err(ContainerError::Answer { .. })), "{garbage:?}");
    let hangs = serve(|_| Vec::new(), Then::Hang);
    assert!(matches!(found(&hangs, "web"), Err(ContainerError::Engine { .. })));
}

#[test]
fn docker_host_stands_for_dockers_own_socket() {
    let of = |host| sockets(host).iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
    assert_eq!(of(None), "/run/docker.sock /var/run/docker.sock /run/podman/podman.sock");
    assert_eq!(of(Some("unix:///x/y")), "/x/y /run/podman/podman.sock");
    assert_eq!(of(Some("tcp://10.0.0.1:2375")), of(None));
    assert_eq!(of(Some("unix://relative")), of(None));
}

#[test]
fn ids_are_read_from_cgroup_paths() {
    let v1 = format!("12:cpu:/docker/{ID}\n3:pids:/docker/{ID}\n");
    assert_eq!(ids_in(&v1), [ID]);
    assert_eq!(ids_in(&format!("0::/system.slice/docker-{ID}.scope\n")), [ID]);
    assert_eq!(ids_in(&format!("0::/machine.slice/libpod-{ID}.scope/container\n")), [ID]);
    assert!(ids_in("0::/init.scope\n").is_empty());
}

#[test]
fn a_pod_is_called_by_its_name_although_its_plugin_named_the_namespace() {
    let mut members = members();
    members[1].name = Some("cni-1f".into());
    let inode = members[1].handle.inode();
    let container = Container { engine: "containerd".into(), pod: Some("shop/web-0".into()), ..Container::default() };
    let mut named = Named::default();
    named.add(vec![bundles::Bundle { inode, path: "/run/netns/cni-1f".into(), container }]);
    let mut namespaces = vec![Netns::default(), Netns { name: "cni-1f".into(), named: true, ..Netns::default() }];
    assert_eq!(named.christen(&mut members, &mut namespaces), []);
    // `ip netns exec` would want the plugin's name: commands go by the path.
    assert_eq!((namespaces[1].name.as_str(), namespaces[1].named), ("shop/web-0", false));
    assert_eq!(members[1].label(), "shop/web-0");
}

#[test]
fn a_pod_that_is_not_here_is_said_so_with_those_that_are() {
    let root = tempfile::tempdir().unwrap();
    let error = find_pod_in(root.path(), "web").unwrap_err();
    assert_eq!(error.to_string(), "there is no pod `default/web` on this machine");
}
