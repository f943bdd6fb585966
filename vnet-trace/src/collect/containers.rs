//! Which container a network namespace belongs to, as its engine calls it: Docker, or Podman, which offers the same API.
//!
//! [`name`] is asked only when there is a namespace that has no name of its own. Each engine is asked on a thread of its
//! own, and all of them together may take [`DEADLINE`]; what an engine does not say by then is a [`Gap`]. One request
//! lists the containers. Which of them lives in which namespace is read from the cgroups of the namespace's processes,
//! whose paths end in the container's id; only where that says nothing (a container whose processes we have not seen) is
//! the engine asked for the container's first process, container by container.
//!
//! [`find`] is for `--container NAME`: one engine after the other is asked for one container.
//!
//! Names are kept as the engine gives them, except that a character that could act on a terminal is spelled out: they
//! become part of place names everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::netns::find::Candidate;
use crate::model::sight::Gap;
use crate::model::snapshot::{Container, EngineNetwork, Netns, PublishedPort};

pub mod bundles;
mod http;

pub use http::HttpError;

/// All engines together get this long.
pub const DEADLINE: Duration = Duration::from_millis(300);
/// Where engines listen, unless DOCKER_HOST says where Docker does. /var/run is mostly a link to /run.
const DOCKER: [&str; 2] = ["/run/docker.sock", "/var/run/docker.sock"];
const PODMAN: &str = "/run/podman/podman.sock";
/// As many containers are looked at; as many as there can be namespaces in a snapshot.
const MOST: usize = 8192;
/// Published ports kept of one container.
const MOST_PORTS: usize = 64;
/// No name of a container is longer.
const LONGEST_NAME: usize = 128;

/// Why there is no such container to ask from.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// No engine listens.
    #[error("no container engine listens on {}", sockets.join(", "))]
    NoEngine {
        /// Where it was looked for.
        sockets: Vec<String>,
    },
    /// The engine does not answer.
    #[error("the container engine cannot be asked")]
    Engine {
        /// Why not.
        #[from]
        source: HttpError,
    },
    /// It answers in another way than engines do.
    #[error("the container engine's answer about `{name}` cannot be understood")]
    Answer {
        /// Asked for.
        name: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It knows no such container.
    #[error("there is no container `{name}`")]
    Missing {
        /// Asked for.
        name: String,
    },
    /// No state of containerd or CRI-O names such a pod.
    #[error("there is no pod `{name}` on this machine{}", if known.is_empty() { String::new() } else { format!("; known are {}", known.join(", ")) })]
    NoPod {
        /// Asked for.
        name: String,
        /// Some that are there.
        known: Vec<String>,
    },
    /// It has no process, and so no network.
    #[error("container {name} is not running: it is {status}")]
    Stopped {
        /// Asked for.
        name: String,
        /// The engine's word: `exited`, `created`, …
        status: String,
    },
}

impl ContainerError {
    /// What the user can do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::NoEngine { .. } => {
                "start it, or say where it listens: DOCKER_HOST=unix:///PATH; `-N PID` asks from the namespace of a process"
            }
            Self::Engine { .. } | Self::Answer { .. } => {
                "`docker ps` shows whether it works; `-N PID` asks from the namespace of a process"
            }
            Self::Missing { .. } => "`docker ps -a` or `podman ps -a` lists the names",
            Self::NoPod { .. } => {
                "a pod is asked for as NAMESPACE/NAME, on the node where it runs; `crictl pods` lists them"
            }
            Self::Stopped { .. } => "start it with `docker start NAME`; a container has a network only while it runs",
        }
    }
}

/// A container's place, as the engine tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its first process.
    pub pid: u32,
}

/// One container of `/containers/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    host_config: Option<HostConfig>,
    #[serde(default)]
    network_settings: Option<NetworkSettings>,
    #[serde(default)]
    ports: Option<Vec<Port>>,
    /// Podman says so here.
    #[serde(default)]
    pid: Option<i64>,
}

/// A port of a container. One that is not published has no public one. Podman's own words for it are not Docker's.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Port {
    #[serde(rename = "IP", alias = "host_ip")]
    ip: Option<String>,
    #[serde(rename = "PrivatePort", alias = "container_port")]
    private: Option<u16>,
    #[serde(rename = "PublicPort", alias = "host_port")]
    public: Option<u16>,
    #[serde(rename = "Type", alias = "protocol")]
    protocol: Option<String>,
}

impl Port {
    fn published(&self) -> Option<PublishedPort> {
        Some(PublishedPort {
            protocol: clean(self.protocol.as_deref().unwrap_or("tcp")),
            host: self.ip.as_deref().and_then(|host| host.parse().ok()),
            host_port: self.public.filter(|port| *port != 0)?,
            port: self.private?,
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    network_mode: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(default)]
    networks: Option<BTreeMap<String, Endpoint>>,
}

/// A container's place in a network, of which only the network's name matters here.
#[derive(Debug, Deserialize)]
struct Endpoint {
    #[serde(default, rename = "NetworkID")]
    _network: Option<String>,
}

/// `/containers/NAME/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    state: State,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    pid: i64,
}

/// One network of `/networks`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    name: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    driver: String,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    options: Option<BTreeMap<String, String>>,
    /// Podman says so here.
    #[serde(default, rename = "NetworkInterface")]
    interface: Option<String>,
}

/// What the engines said: the container of a namespace by the namespace's inode.
#[derive(Debug, Default)]
pub struct Named {
    containers: BTreeMap<u64, Container>,
    networks: Vec<EngineNetwork>,
    gaps: Vec<Gap>,
}

/// Whether an engine has to be asked: some namespace besides the command's own has no name that a person gave.
pub fn are_wanted(members: &[Candidate]) -> bool {
    members.iter().skip(1).any(is_nameless)
}

/// Without a name under /run/netns, or with one that a container engine made up.
fn is_nameless(member: &Candidate) -> bool {
    member.name.as_ref().is_none_or(|name| name.starts_with("cni-"))
}

/// The containers of these namespaces.
pub fn name(members: &[Candidate]) -> Named {
    let host = std::env::var("DOCKER_HOST").ok();
    let sockets = sockets(host.as_deref());
    let mut named = name_by(&sockets, members);
    // Somebody means that there is an engine: of all others it is usual that they are not there.
    if let (Some(host), Some(socket)) = (host.filter(|host| host.starts_with("unix:")), sockets.first())
        && !socket.exists()
    {
        named.gaps.push(Gap {
            what: "names of containers".into(),
            why: format!("there is no socket {}", clean(&socket.display().to_string())),
            help: format!("DOCKER_HOST is {}", clean(&host)),
        });
    }
    let (bundles, gap) = bundles::read(Path::new("/"), Instant::now() + DEADLINE);
    named.add(bundles);
    named.gaps.extend(gap);
    named
}

fn name_by(sockets: &[PathBuf], members: &[Candidate]) -> Named {
    let mut seen = BTreeSet::new();
    let there = sockets.iter().filter(|socket| {
        // What is no socket is no engine; the same socket by another path is the same engine.
        std::fs::metadata(socket).is_ok_and(|metadata| seen.insert((metadata.dev(), metadata.ino())))
    });
    let end = Instant::now() + DEADLINE;
    let mut named = Named::default();
    std::thread::scope(|scope| {
        let asked: Vec<_> = there
            .filter_map(|socket| {
                let ask = move || (socket, by_engine(socket, members, end));
                std::thread::Builder::new().name("containers".into()).spawn_scoped(scope, ask).ok()
            })
            .collect();
        for (socket, (Answered { containers, networks }, trouble)) in
            asked.into_iter().filter_map(|thread| thread.join().ok())
        {
            for (inode, container) in containers {
                named.containers.entry(inode).or_insert(container);
            }
            named.networks.extend(networks);
            named.gaps.extend(trouble.map(|why| Gap {
                what: "names of containers".into(),
                why,
                help: format!(
                    "namespaces are called by their processes; see whether the engine at {} works",
                    socket.display()
                ),
            }));
        }
    });
    named
}

/// What one engine said.
#[derive(Debug, Default)]
struct Answered {
    /// By their namespaces' inodes.
    containers: Vec<(u64, Container)>,
    networks: Vec<EngineNetwork>,
}

/// The containers and networks of one engine, and what went wrong on the way.
fn by_engine(socket: &Path, members: &[Candidate], end: Instant) -> (Answered, Option<String>) {
    let mut found = Answered::default();
    let trouble = ask_engine(socket, members, end, &mut found).err();
    (found, trouble)
}

fn ask_engine(socket: &Path, members: &[Candidate], end: Instant, found: &mut Answered) -> Result<(), String> {
    let mut listed: Vec<Listed> = ask(socket, "/containers/json", end)?;
    listed.truncate(MOST);
    listed.retain(|container| !is_guest(container));
    if listed.is_empty() {
        return Ok(());
    }
    let mut networks: Vec<Network> = ask(socket, "/networks", end).unwrap_or_default();
    networks.truncate(MOST);
    let engine = engine_of(socket);
    found.networks = networks.iter().map(|network| network.of(engine)).collect();
    let drivers: BTreeMap<String, String> =
        networks.into_iter().map(|network| (network.name, network.driver)).collect();
    let found = &mut found.containers;
    let by_id: BTreeMap<&str, &Listed> = listed.iter().map(|container| (container.id.as_str(), container)).collect();
    let mut left = by_id.clone();
    for member in members {
        let mut ids = member.pids.iter().flat_map(|pid| ids_of(*pid));
        if let Some(container) = ids.find_map(|id| by_id.get(id.as_str()).copied()) {
            left.remove(container.id.as_str());
            found.push((member.handle.inode(), describe(engine, container, &drivers)));
        }
    }
    let mut nameless = members.iter().filter(|member| member.name.is_none()).map(|member| member.handle.inode());
    if nameless.all(|inode| found.iter().any(|(known, _)| *known == inode)) {
        return Ok(());
    }
    for container in left.into_values() {
        let pid = match container.pid {
            Some(pid) => pid,
            None => ask::<Inspected>(socket, &format!("/containers/{}/json", escaped(&container.id)), end)?.state.pid,
        };
        if let Some(inode) = u32::try_from(pid).ok().and_then(inode_of) {
            found.push((inode, describe(engine, container, &drivers)));
        }
    }
    Ok(())
}

impl Network {
    fn of(&self, engine: &str) -> EngineNetwork {
        let options = self.options.iter().flatten().map(|(key, value)| (clean(key), clean(value)));
        let options: BTreeMap<String, String> = options.collect();
        let named = options.get("com.docker.network.bridge.name").cloned();
        // Without a name of its own the bridge is called after the network's id.
        let by_id = || self.id.get(..12).map(|id| clean(&format!("br-{id}")));
        let bridge = named.or_else(|| self.interface.as_deref().map(clean)).or_else(by_id);
        EngineNetwork {
            engine: engine.to_owned(),
            name: clean(&self.name),
            driver: clean(&self.driver),
            bridge: bridge.filter(|_| self.driver == "bridge"),
            internal: self.internal,
            options,
        }
    }
}

/// Shares the host's namespace or another container's, so that the namespace is not called after it.
fn is_guest(container: &Listed) -> bool {
    let mode = container.host_config.as_ref().and_then(|config| config.network_mode.as_deref()).unwrap_or_default();
    mode == "host" || mode.starts_with("container:")
}

fn describe(engine: &str, container: &Listed, drivers: &BTreeMap<String, String>) -> Container {
    let label = |key: &str| container.labels.as_ref().and_then(|labels| labels.get(key));
    let pod = label("io.kubernetes.pod.namespace").zip(label("io.kubernetes.pod.name"));
    let networks = container.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    // A container that others link to has their names for it as well, `/other/alias`.
    let names = container.names.as_deref().unwrap_or_default();
    let own = names.iter().map(|name| name.trim_start_matches('/')).find(|name| !name.contains('/'));
    Container {
        engine: engine.to_owned(),
        id: clean(&container.id),
        name: own.filter(|name| !name.is_empty()).map_or_else(|| short(&container.id), clean),
        networks: networks
            .into_iter()
            .flatten()
            .map(|(name, _)| (clean(name), clean(drivers.get(name).map_or("", String::as_str))))
            .collect(),
        pod: pod.map(|(namespace, name)| clean(&format!("{namespace}/{name}"))),
        ports: {
            let mut ports: Vec<PublishedPort> = container.ports.iter().flatten().filter_map(Port::published).collect();
            ports.sort();
            ports.dedup();
            ports.truncate(MOST_PORTS);
            ports
        },
    }
}

impl Named {
    /// Adds what state files say, where no engine has spoken.
    fn add(&mut self, bundles: Vec<bundles::Bundle>) {
        for bundle in bundles {
            self.containers.entry(bundle.inode).or_insert(bundle.container);
        }
    }

    /// The networks of the engines that answered.
    pub fn networks(&mut self) -> Vec<EngineNetwork> {
        std::mem::take(&mut self.networks)
    }

    /// Gives the containers to the namespaces, and to the candidates so that they are called the same when they are read
    /// again. Returns what could not be learnt.
    pub fn christen(mut self, members: &mut [Candidate], namespaces: &mut [Netns]) -> Vec<Gap> {
        let mut taken: BTreeSet<String> = members.iter().filter_map(|member| member.name.clone()).collect();
        for (index, (member, netns)) in members.iter_mut().zip(namespaces).enumerate() {
            let Some(container) = self.containers.remove(&member.handle.inode()) else { continue };
            // `.` stays `.`, and a name under /run/netns wins: it is what `ip netns exec` takes. A CNI plugin's is none.
            if index > 0 && is_nameless(member) {
                let by_id = format!("{}:{}", container.engine, short(&container.id));
                let own = container.pod.clone().filter(|_| container.networks.is_empty());
                let own = own.unwrap_or_else(|| container.name.clone());
                let with_engine = format!("{}:{own}", container.engine);
                let name = [own, with_engine, by_id].into_iter().find(|name| !taken.contains(name));
                if let Some(name) = name {
                    taken.insert(name.clone());
                    (member.name, netns.named) = (None, false);
                    netns.name.clone_from(&name);
                    member.called = Some(name);
                }
            }
            netns.container = Some(container.clone());
            member.container = Some(container);
        }
        self.gaps
    }
}

/// A path to the network namespace of a pod, `NAMESPACE/NAME`; without the namespace it is `default`.
pub fn find_pod(name: &str) -> Result<PathBuf, ContainerError> {
    find_pod_in(Path::new("/"), name)
}

/// `NAMESPACE/NAME` of a pod that may have been written without its namespace.
pub fn whole_pod(name: &str) -> String {
    if name.contains('/') { clean(name) } else { format!("default/{}", clean(name)) }
}

fn find_pod_in(root: &Path, name: &str) -> Result<PathBuf, ContainerError> {
    const SHOWN: usize = 8;
    let wanted = whole_pod(name);
    let (bundles, _) = bundles::read(root, Instant::now() + DEADLINE);
    let mut known: Vec<String> = bundles.iter().filter_map(|bundle| bundle.container.pod.clone()).collect();
    let found = bundles.into_iter().find(|bundle| bundle.container.pod.as_deref() == Some(&wanted));
    known.sort();
    known.truncate(SHOWN);
    found.map(|bundle| bundle.path).ok_or(ContainerError::NoPod { name: wanted, known })
}

/// The container of this name or id, running.
pub fn find(name: &str) -> Result<Found, ContainerError> {
    find_by(&sockets(std::env::var("DOCKER_HOST").ok().as_deref()), name)
}

fn find_by(sockets: &[PathBuf], name: &str) -> Result<Found, ContainerError> {
    let missing = || ContainerError::Missing { name: clean(name) };
    let end = Instant::now() + DEADLINE;
    let path = format!("/containers/{}/json", escaped(name));
    let mut first = None;
    for socket in sockets {
        let reply = match http::get(socket, &path, end) {
            Ok(reply) => reply,
            Err(HttpError::Missing { .. }) => continue,
            // Another engine may know it.
            Err(error) => {
                first.get_or_insert(error.into());
                continue;
            }
        };
        if reply.status != 200 || name.is_empty() {
            first.get_or_insert_with(missing);
            continue;
        }
        let inspected: Inspected = serde_json::from_slice(&reply.body)
            .map_err(|source| ContainerError::Answer { name: clean(name), source })?;
        let pid = u32::try_from(inspected.state.pid).ok().filter(|pid| *pid != 0);
        let Some(pid) = pid else {
            let status = inspected.state.status.unwrap_or_else(|| "not running".into());
            return Err(ContainerError::Stopped { name: clean(name), status: clean(&status) });
        };
        return Ok(Found { pid });
    }
    let sockets = || sockets.iter().map(|socket| socket.display().to_string()).collect();
    Err(first.unwrap_or_else(|| ContainerError::NoEngine { sockets: sockets() }))
}

/// Where engines listen. DOCKER_HOST stands for Docker's own sockets if it names one of the machine; else it is not for us.
fn sockets(docker_host: Option<&str>) -> Vec<PathBuf> {
    let docker = match docker_host.and_then(|host| host.strip_prefix("unix://")).filter(|path| path.starts_with('/')) {
        Some(path) => vec![PathBuf::from(path)],
        None => DOCKER.map(PathBuf::from).to_vec(),
    };
    docker.into_iter().chain([PathBuf::from(PODMAN)]).collect()
}

fn engine_of(socket: &Path) -> &'static str {
    if socket.to_string_lossy().contains("podman") { "podman" } else { "docker" }
}

fn ask<T: DeserializeOwned>(socket: &Path, path: &str, end: Instant) -> Result<T, String> {
    let reply = http::get(socket, path, end).map_err(|error| super::snapshot::why(&error))?;
    if reply.status != 200 {
        return Err(format!("{} refuses {path} with status {}", socket.display(), reply.status));
    }
    serde_json::from_slice(&reply.body)
        .map_err(|error| format!("{} answers {path} in another way than engines do: {error}", socket.display()))
}

/// Ids in the cgroup paths of a process, the innermost last in each line: `/docker/ID`, `docker-ID.scope`, `libpod-ID`.
fn ids_of(pid: u32) -> Vec<String> {
    ids_in(&std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default())
}

fn ids_in(cgroups: &str) -> Vec<String> {
    const LENGTH: usize = 64;
    let mut ids: Vec<String> = cgroups
        .lines()
        .flat_map(|line| line.rsplit(|c: char| !c.is_ascii_hexdigit()))
        .filter(|word| word.len() == LENGTH)
        .map(str::to_owned)
        .collect();
    ids.dedup();
    ids
}

fn inode_of(pid: u32) -> Option<u64> {
    std::fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|metadata| metadata.ino())
}

/// As `docker ps` shows ids.
fn short(id: &str) -> String {
    clean(id).chars().take(12).collect()
}

/// Without anything that could act on a terminal, and not endless.
fn clean(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars()
        .take(LONGEST_NAME)
        .flat_map(|c| if harmful(c) { c.escape_unicode().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

/// A name as a part of a path (RFC 3986 §2.1).
fn escaped(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            // Two dots would lead out of the path.
            b'.' if name.len() > 2 => ".".to_owned(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
#[path = "containers/tests.rs"]
mod tests;
