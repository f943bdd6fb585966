//! Pods and containers by the state files of containerd and CRI-O, without asking a daemon.
//!
//! Each running container has a folder with the OCI runtime specification it was started with (`config.json`). There the CRI
//! plugins write the pod's name and namespace as annotations, and the path of its network namespace. Kubernetes' own way
//! to these, the Container Runtime Interface, is gRPC over HTTP/2: a dependency of a hundred crates, or an engine to write, for
//! three words that lie on the disk. The files also tell when the daemon does not answer.
//!
//! | who | where | pod |
//! | --- | --- | --- |
//! | containerd (also of k3s, RKE2, MicroK8s) | `io.containerd.runtime.v2.task/NAMESPACE/ID/config.json` below its state folder | `io.kubernetes.cri.sandbox-name`, `…-namespace` |
//! | nerdctl | the same | none; `nerdctl/name` |
//! | CRI-O | `/run/containers/storage/DRIVER-containers/ID/userdata/config.json` | `io.kubernetes.pod.name`, `…namespace` |
//!
//! Docker's containers (containerd's namespace `moby`) are left to Docker. What cannot be read in time, or is no such file, is
//! left out; that some were left out is a [`Gap`].

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Deserialize;

use super::{MOST, clean, short};
use crate::model::sight::Gap;
use crate::model::snapshot::Container;

/// State folders of containerd.
const CONTAINERD: [&str; 3] = ["run/containerd", "run/k3s/containerd", "var/snap/microk8s/common/run/containerd"];
/// No specification is larger; those of pods have some 20 kB.
const LARGEST: u64 = 1 << 20;

/// A container that has a network namespace of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// Inode of its network namespace.
    pub inode: u64,
    /// A path that leads there.
    pub path: PathBuf,
    /// Who it is.
    pub container: Container,
}

/// The parts of an OCI runtime specification that are wanted.
#[derive(Debug, Default, Deserialize)]
struct Spec {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    linux: Linux,
}

#[derive(Debug, Default, Deserialize)]
struct Linux {
    #[serde(default)]
    namespaces: Vec<Namespace>,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: String,
}

/// Whether any such engine has left state below `root`.
pub fn are_there(root: &Path) -> bool {
    folders(root).next().is_some()
}

/// All of them below `root`, until `end`; of several containers of a pod one.
pub fn read(root: &Path, end: Instant) -> (Vec<Bundle>, Option<Gap>) {
    let mut found: BTreeMap<u64, Bundle> = BTreeMap::new();
    let mut left = 0;
    for (engine, folder) in folders(root).take(MOST) {
        if Instant::now() >= end {
            left += 1;
            continue;
        }
        let Some(bundle) = bundle(root, engine, &folder) else { continue };
        // A pod's containers share its namespace; whichever says the pod will do.
        let known = found.get(&bundle.inode).is_some_and(|known| known.container.pod.is_some());
        if !known {
            found.insert(bundle.inode, bundle);
        }
    }
    let gap = (left > 0).then(|| Gap {
        what: format!("names of pods: {left} containers of containerd or CRI-O"),
        why: "their state could not be read in time".to_owned(),
        help: "namespaces are called by their processes; see whether the disk is slow".to_owned(),
    });
    (found.into_values().collect(), gap)
}

/// The folders of all containers, with their engine.
fn folders(root: &Path) -> impl Iterator<Item = (&'static str, PathBuf)> {
    let below = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let tasks = CONTAINERD.map(|state| root.join(state).join("io.containerd.runtime.v2.task"));
    let spaces = tasks.into_iter().flat_map(below).filter(|space| space.file_name().is_none_or(|name| name != "moby"));
    let containerd = spaces.flat_map(below).map(|folder| ("containerd", folder));
    let storage = below(root.join("run/containers/storage"));
    let drivers = storage.filter(|path| path.to_string_lossy().ends_with("-containers"));
    let crio = drivers.flat_map(below).map(|folder| ("cri-o", folder.join("userdata")));
    containerd.chain(crio)
}

fn bundle(root: &Path, engine: &'static str, folder: &Path) -> Option<Bundle> {
    let mut text = String::new();
    fs::File::open(folder.join("config.json")).ok()?.take(LARGEST).read_to_string(&mut text).ok()?;
    let spec: Spec = serde_json::from_str(&text).ok()?;
    let word = |keys: [&str; 2]| keys.iter().find_map(|key| spec.annotations.get(*key)).map(|word| clean(word));
    let namespace = word(["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]);
    let pod = word(["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]);
    let id = match engine {
        "cri-o" => folder.parent()?.file_name()?,
        _ => folder.file_name()?,
    };
    let id = id.to_string_lossy().into_owned();
    let name = pod.clone().or_else(|| word(["nerdctl/name", "io.kubernetes.cri.container-name"]));
    // Podman keeps its containers where CRI-O does, and is asked by its own socket.
    if engine == "cri-o" && pod.is_none() {
        return None;
    }
    let network = spec.linux.namespaces.iter().find(|namespace| namespace.kind == "network")?;
    let path = if network.path.is_empty() {
        // The container's first process made it.
        let pid: u32 = fs::read_to_string(folder.join("init.pid")).ok()?.trim().parse().ok()?;
        root.join(format!("proc/{pid}/ns/net"))
    } else {
        root.join(network.path.trim_start_matches('/'))
    };
    let inode = fs::metadata(&path).ok()?.ino();
    Some(Bundle {
        inode,
        path,
        container: Container {
            engine: engine.to_owned(),
            name: name.unwrap_or_else(|| short(&id)),
            id: clean(&id),
            networks: Vec::new(),
            ports: Vec::new(),
            pod: namespace.zip(pod).map(|(namespace, pod)| format!("{namespace}/{pod}")),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    /// A machine with one bundle at this place, whose namespace is a file.
    fn machine(folder: &str, config: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(root.path().join("run/netns")).unwrap();
        fs::write(root.path().join("run/netns/cni-1"), "").unwrap();
        fs::write(folder.join("config.json"), config).unwrap();
        root
    }

    const TASK: &str = "run/containerd/io.containerd.runtime.v2.task/k8s.io/5a5a";

    fn sandbox(name: &str) -> String {
        json!({
            "ociVersion": "1.1.0",
            "annotations": {
                "io.kubernetes.cri.container-type": "sandbox",
                "io.kubernetes.cri.sandbox-name": name,
                "io.kubernetes.cri.sandbox-namespace": "shop",
            },
            "linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/cni-1"}]},
        })
        .to_string()
    }

    #[test]
    fn a_pod_of_containerd_is_found_by_its_namespace() {
        let root = machine(TASK, &sandbox("web-0"));
        assert!(are_there(root.path()));
        let (found, gap) = read(root.path(), soon());
        assert_eq!((found.len(), gap), (1, None));
        assert_eq!(found[0].inode, fs::metadata(root.path().join("run/netns/cni-1")).unwrap().ino());
        let container = &found[0].container;
        assert_eq!((container.engine.as_str(), container.id.as_str()), ("containerd", "5a5a"));
        assert_eq!(container.pod.as_deref(), Some("shop/web-0"));
    }

    #[test]
    fn a_pod_of_cri_o_is_found_by_its_namespace() {
        let config = json!({
            "annotations": {"io.kubernetes.pod.name": "db", "io.kubernetes.pod.namespace": "shop"},
            "linux": {"namespaces": [{"type": "network", "path": "/run/netns/cni-1"}]},
        });
        let root = machine("run/containers/storage/overlay-containers/77/userdata", &config.to_string());
        let (found, _) = read(root.path(), soon());
        assert_eq!((found[0].container.engine.as_str(), found[0].container.id.as_str()), ("cri-o", "77"));
        assert_eq!(found[0].container.pod.as_deref(), Some("shop/db"));
    }

    #[test]
    fn dockers_containers_are_left_to_docker() {
        let root = machine("run/containerd/io.containerd.runtime.v2.task/moby/5a5a", &sandbox("web-0"));
        assert!(!are_there(root.path()));
    }

    #[test]
    fn hostile_files_are_left_out() {
        let deep = "[".repeat(100_000);
        let large = format!("{}{}", " ".repeat(2 << 20), sandbox("web-0"));
        let gone = sandbox("web-0").replace("cni-1", "cni-2");
        for config in ["", "no json", "{}", "[1]", &deep, &large, &gone] {
            let root = machine(TASK, config);
            let begun = Instant::now();
            assert_eq!(read(root.path(), soon()), (Vec::new(), None), "{}", config.trim().get(..40).unwrap_or(config));
            assert!(begun.elapsed() < super::super::DEADLINE);
        }
    }

    #[test]
    fn names_cannot_act_on_a_terminal() {
        let (found, _) = read(machine(TASK, &sandbox("w\u{1b}[2Jeb")).path(), soon());
        assert_eq!(found[0].container.pod.as_deref(), Some("shop/w\\u{1b}[2Jeb"));
    }

    #[test]
    fn what_is_not_read_in_time_is_a_gap() {
        let (found, gap) = read(machine(TASK, &sandbox("web-0")).path(), Instant::now());
        assert_eq!(found, []);
        assert!(gap.is_some_and(|gap| gap.why.contains("in time")));
    }
}
