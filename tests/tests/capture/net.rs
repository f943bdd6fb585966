//! A private network for one test: a thread in fresh network and mount namespaces, where /run/netns is its own.

use std::process::Command;

use libtest_mimic::Failed;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Runs the case on a thread that has moved into fresh namespaces. They end with it.
pub fn in_private_network(case: fn() -> Result<(), Failed>) -> Result<(), Failed> {
    let thread = std::thread::spawn(move || {
        let _ = std::fs::create_dir_all("/run/netns");
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        mount(Some("test"), "/run/netns", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
        case()
    });
    thread.join().map_err(|_| Failed::from("the test panicked"))?
}

/// Runs a shell script in the caller's namespaces.
pub fn sh(script: &str) -> Result<(), Failed> {
    let done = Command::new("bash").args(["-euc", script]).output()?;
    if done.status.success() {
        Ok(())
    } else {
        Err(format!("{script}\n{}", String::from_utf8_lossy(&done.stderr)).into())
    }
}

/// Two namespaces `a` and `b` with a cable: 10.0.0.1 and fd00::1 in `a`, 10.0.0.2 and fd00::2 in `b`, devices `eth0`.
pub fn cable() -> Result<(), Failed> {
    sh("ip netns add a
        ip netns add b
        ip link add eth0 netns a type veth peer name eth0 netns b
        for n in a b; do
          ip -n $n link set lo up
          ip -n $n link set eth0 up
        done
        ip -n a addr add 10.0.0.1/24 dev eth0
        ip -n b addr add 10.0.0.2/24 dev eth0
        ip -n a addr add fd00::1/64 dev eth0 nodad
        ip -n b addr add fd00::2/64 dev eth0 nodad")
}

/// Both ends of a cable in the caller's namespace: 10.1.1.11 on veth0, 10.1.1.12 on veth1, and whatever the sysctls must be.
pub fn pair_in_one() -> Result<(), Failed> {
    sh("ip link set lo up
        ip link add veth0 type veth peer name veth1
        for c in all veth0 veth1; do sysctl -qw net.ipv4.conf.$c.rp_filter=0 net.ipv4.conf.$c.accept_local=1; done
        ip link set veth0 up
        ip link set veth1 up")
}
