//! Two hosts and the router between them, and what is sent over it.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};

use libtest_mimic::Failed;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// One exchange.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Namespace that begins it: `a`, `b` or `r`.
    pub from: &'static str,
    /// Address that it is for.
    pub to: &'static str,
    /// What is sent.
    pub what: Carried,
}

/// What a probe sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// One echo request.
    Ping,
    /// A TCP connection to this port.
    Tcp(u16),
    /// A datagram to this port, and one back.
    Udp(u16),
}

/// What every rule set is tried with.
pub const PROBES: &[Probe] = &[
    Probe { from: "a", to: "10.0.2.2", what: Carried::Ping },
    Probe { from: "a", to: "fd00:2::2", what: Carried::Ping },
    Probe { from: "a", to: "10.0.1.1", what: Carried::Ping },
    Probe { from: "r", to: "10.0.2.2", what: Carried::Ping },
    Probe { from: "b", to: "10.0.1.2", what: Carried::Ping },
    Probe { from: "a", to: "10.0.2.2", what: Carried::Tcp(8080) },
    Probe { from: "a", to: "10.0.2.2", what: Carried::Tcp(22) },
    Probe { from: "a", to: "10.0.2.2", what: Carried::Udp(5353) },
    Probe { from: "a", to: "fd00:2::2", what: Carried::Tcp(8080) },
];

/// Until linkwatch has activated its queue, a device drops what it is given.
pub const WAIT: &str = r#"
is_up() {
  for t in $(seq 1000); do
    "$@" | grep -q ' UP ' && return
    sleep 0.01
  done
  echo "not up after 10 s: $*" >&2
  return 1
}
"#;

const SETUP: &str = "
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
ip link set lo up
for side in a:1 b:2; do
  name=${side%:*} net=${side#*:}
  ip netns add $name
  ip link add r$name address 02:00:00:00:0$net:01 type veth peer name eth0 address 02:00:00:00:0$net:02 netns $name
  ip addr add 10.0.$net.1/24 dev r$name
  ip addr add fd00:$net::1/64 dev r$name nodad
  ip link set r$name up
  ip -n $name link set lo up
  ip -n $name addr add 10.0.$net.2/24 dev eth0
  ip -n $name addr add fd00:$net::2/64 dev eth0 nodad
  ip -n $name link set eth0 up
  ip -n $name route add default via 10.0.$net.1
  ip -n $name route add default via fd00:$net::1
  # Neighbours are given, so that rules which drop everything do not drop address resolution as well.
  ip neigh add 10.0.$net.2 lladdr 02:00:00:00:0$net:02 dev r$name nud permanent
  ip neigh add fd00:$net::2 lladdr 02:00:00:00:0$net:02 dev r$name nud permanent
  ip -n $name neigh add 10.0.$net.1 lladdr 02:00:00:00:0$net:01 dev eth0 nud permanent
  ip -n $name neigh add fd00:$net::1 lladdr 02:00:00:00:0$net:01 dev eth0 nud permanent
done
for name in a b; do
  is_up ip -br link show r$name
  is_up ip -n $name -br link show eth0
done
";

/// Runs a test in the router's namespace of a network of its own, which ends with it.
pub fn in_network(test: impl FnOnce() -> Result<(), Failed> + Send) -> Result<(), Failed> {
    in_private_network(|| {
        sh(&format!("{WAIT}{SETUP}"))?;
        for name in ["a", "b"] {
            serve(name)?;
        }
        test()
    })
}

/// Runs a test in an empty network namespace, with a place of its own for named ones.
pub fn in_private_network(test: impl FnOnce() -> Result<(), Failed> + Send) -> Result<(), Failed> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            std::fs::create_dir_all("/run/netns")?;
            mount(Some("tmpfs"), "/run/netns", Some("tmpfs"), MsFlags::empty(), none)?;
            test()
        });
        thread.join().map_err(|_| Failed::from("the test panicked"))?
    })
}

/// Runs a script in the current namespaces.
pub fn sh(script: &str) -> Result<(), Failed> {
    let output = Command::new("sh").args(["-e", "-c", script]).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{script}\n{}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Whether an exchange succeeds now, within these seconds.
pub fn probe(probe: &Probe, seconds: &str) -> bool {
    let Probe { from, to, what } = probe;
    let command = match what {
        Carried::Ping => format!("ping -n -c 1 -W {seconds} {to}"),
        Carried::Tcp(port) => format!("timeout {seconds} bash -c 'exec 3<>/dev/tcp/{to}/{port}'"),
        Carried::Udp(port) => {
            format!("timeout {seconds} bash -c 'exec 3<>/dev/udp/{to}/{port}; echo x >&3; head -c 1 <&3'")
        }
    };
    let command = if *from == "r" { command } else { format!("ip netns exec {from} {command}") };
    let status = Command::new("sh")
        .args(["-c", &command])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Sockets that answer, in a namespace by name. They live until the process ends; the namespaces go with the last of them.
fn serve(name: &str) -> Result<(), Failed> {
    let path = format!("/run/netns/{name}");
    let namespace = std::fs::File::open(path)?;
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let listeners = (|| -> std::io::Result<_> {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            let web = TcpListener::bind("[::]:8080")?;
            let shell = TcpListener::bind("[::]:22")?;
            let names = UdpSocket::bind("[::]:5353")?;
            Ok((web, shell, names))
        })();
        let Ok((web, shell, names)) = listeners else { return };
        for listener in [web, shell] {
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let Ok(mut stream) = stream else { return };
                    let _ = stream.write_all(b"x");
                    let _ = stream.set_read_timeout(Some(std::time::Duration::from_millis(10)));
                    let _ = stream.read(&mut [0; 1]);
                }
            });
        }
        let _ = ready.send(());
        let mut bytes = [0; 16];
        while let Ok((length, sender)) = names.recv_from(&mut bytes) {
            let _ = names.send_to(&bytes[..length], sender);
        }
    });
    is_ready.recv().map_err(|_| Failed::from(format!("nobody listens in {name}")))
}
