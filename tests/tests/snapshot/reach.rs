//! Which namespaces a snapshot holds, how they are called, and that it survives their going.

use std::process::{Child, Command};

use libtest_mimic::Failed;
use vnet_trace::collect::netns::{Asked, run_in};
use vnet_trace::collect::snapshot::{Reach, Request, SnapshotError, Taken, take};
use vnet_trace::model::id::NetnsId;
use vnet_trace::model::snapshot::{Netns, Part};

use super::net::{cable, sh};
use super::{Case, same, snapshot, snapshot_of};

pub const CASES: &[Case] = &[
    ("only_connected_namespaces", "", connected),
    ("own_comes_first_and_asked_next", "", order),
    ("lower_devices_lead_both_ways", "", lower_devices),
    ("a_tunnel_leads_to_its_home", "", tunnel),
    ("a_namespace_of_a_process_alone", "", processes),
    ("a_namespace_with_two_names_and_a_moved_name", "", names),
    ("a_handle_outlives_the_name", "", handles),
    ("a_namespace_that_nothing_leads_to", "", hidden),
    ("what_cannot_be_asked_is_an_error", "", errors),
    ("namespaces_that_come_and_go", "", churn),
    ("everything_on_request", "", everything),
    ("without_rights_what_can_be_seen", "", unprivileged),
];

fn names_of(taken: &Taken) -> Vec<&str> {
    taken.snapshot.namespaces.iter().map(|netns| netns.name.as_str()).collect()
}

/// A chain of three namespaces, one of their own, and the test's own on the side.
fn chain() -> Result<(), Failed> {
    sh("for n in a b c lone; do ip netns add $n; done
        ip link add ab netns a type veth peer name ba netns b
        ip link add bc netns b type veth peer name cb netns c")
}

fn connected() -> Result<(), Failed> {
    chain()?;
    same("from a", names_of(&snapshot_of("a")?), vec![".", "a", "b", "c"])?;
    same("from lone", names_of(&snapshot_of("lone")?), vec![".", "lone"])?;
    same("from here", names_of(&snapshot()?), vec!["."])
}

fn order() -> Result<(), Failed> {
    chain()?;
    let taken = snapshot_of("c")?;
    same("asked", taken.asked, NetnsId(1))?;
    same("order", names_of(&taken), vec![".", "c", "b", "a"])?;
    let ids: Vec<u32> = taken.snapshot.namespaces.iter().map(|netns| netns.id.0).collect();
    same("ids", ids, vec![0, 1, 2, 3])?;
    let again = taken.again()?;
    same("again", again.namespaces.iter().map(|netns| netns.name.as_str()).collect(), names_of(&taken))?;
    // Both ends name each other.
    for (device, link) in taken.snapshot.devices().filter(|(_, link)| !link.is_loopback()) {
        let peer = taken.snapshot.peer(device).ok_or(format!("{} has no peer", link.name))?;
        same(&link.name, taken.snapshot.peer(peer), Some(device))?;
        same(&link.name, taken.snapshot.device_name(peer), link.name.chars().rev().collect())?;
    }
    Ok(())
}

fn lower_devices() -> Result<(), Failed> {
    sh("ip netns add child
        ip link add v0 type veth peer name v1
        ip link add mv0 link v0 type macvlan mode bridge
        ip link set mv0 netns child")?;
    let taken = snapshot()?;
    same("from the lower device", names_of(&taken), vec![".", "child"])?;
    let lower = taken.snapshot.devices().find(|(_, link)| link.name == "v0").map(|(device, _)| device);
    let upper = taken.snapshot.devices().find(|(_, link)| link.name == "mv0").map(|(device, _)| device);
    same("lower", upper.and_then(|upper| taken.snapshot.lower(upper)), lower)?;
    same("uppers", lower.map(|lower| taken.snapshot.uppers(lower)), upper.map(|upper| vec![upper]))?;
    same("from the child", names_of(&snapshot_of("child")?), vec![".", "child"])
}

fn tunnel() -> Result<(), Failed> {
    sh("ip netns add home
        ip netns add away
        ip -n home link add vx0 type vxlan id 5 dstport 4789
        ip -n home link set vx0 netns away")?;
    same("from away", names_of(&snapshot_of("away")?), vec![".", "away", "home"])?;
    same("from home", names_of(&snapshot_of("home")?), vec![".", "home", "away"])
}

/// A process in a network namespace without a name; ended when dropped.
struct Nameless(Child);

impl Nameless {
    fn start() -> Result<Self, Failed> {
        let child = Self(Command::new("unshare").args(["-n", "sleep", "60"]).spawn()?);
        // unshare(1) has moved once it has become the other program.
        let comm = format!("/proc/{}/comm", child.0.id());
        while std::fs::read_to_string(&comm)?.trim() != "sleep" {
            std::thread::yield_now();
        }
        Ok(child)
    }
}

impl Drop for Nameless {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn processes() -> Result<(), Failed> {
    let process = Nameless::start()?;
    let pid = process.0.id();
    sh(&format!("ip link add v0 type veth peer name v1 netns {pid}"))?;
    let taken = snapshot()?;
    same("names", names_of(&taken), vec![".", &format!("pid:{pid} (sleep)")])?;
    let there = taken.snapshot.netns(NetnsId(1)).ok_or("it is not there")?;
    same("pids", there.pids.as_slice(), &[pid])?;
    same("path", there.path.as_deref(), Some(format!("/proc/{pid}/ns/net").as_str()))?;
    same("named", there.named, false)?;
    same("asked by pid", snapshot_of(&pid.to_string())?.snapshot.namespaces[1].inode, there.inode)
}

fn names() -> Result<(), Failed> {
    cable()?;
    sh("ln -s /run/netns/b /run/netns/zz
        touch /run/netns/stale")?;
    let taken = snapshot_of("a")?;
    same("names", names_of(&taken), vec![".", "a", "b"])?;
    same("by path", names_of(&snapshot_of("/run/netns/zz")?), vec![".", "b", "a"])?;
    sh("ip netns attach here $$")?;
    same("own name", names_of(&snapshot()?), vec!["here"])
}

fn handles() -> Result<(), Failed> {
    cable()?;
    let taken = snapshot_of("a")?;
    sh("ip netns del b")?;
    let handle = taken.handle(NetnsId(2)).ok_or("no handle")?;
    let devices = run_in(handle, || Command::new("ip").args(["-br", "link"]).output())??;
    same("devices", String::from_utf8_lossy(&devices.stdout).contains("eth0"), true)?;
    same("again", taken.again()?.namespaces.len(), 3)
}

fn hidden() -> Result<(), Failed> {
    sh("ip netns add hidden; ip link add v0 type veth peer name v1 netns hidden")?;
    let kept = Asked::parse("hidden").open()?;
    sh("ip netns del hidden")?;
    let taken = snapshot()?;
    same("names", names_of(&taken), vec!["."])?;
    let v0 = taken.snapshot.namespaces[0].link_by_name("v0").map(|link| (link.link_nsid.is_some(), link.link_netns));
    same("v0", v0, Some((true, None)))?;
    let gaps: Vec<&str> = taken.snapshot.gaps.iter().map(|gap| gap.what.as_str()).collect();
    same("gaps", gaps, vec!["other end of v0 of netns ."])?;
    drop(kept);
    Ok(())
}

fn errors() -> Result<(), Failed> {
    let of = |asked: &str| take(&Request { asked: Asked::parse(asked), ..Request::default() });
    for (asked, message) in [
        ("nowhere", "there is no network namespace `nowhere`"),
        ("/proc/version", "`/proc/version` is not a network namespace"),
        ("4194999", "there is no network namespace `pid 4194999`"),
    ] {
        match of(asked) {
            Err(SnapshotError::Netns(error)) => same(asked, error.to_string(), message.to_owned())?,
            Err(error) => return Err(format!("{asked}: {error}").into()),
            Ok(_) => return Err(format!("{asked} was found").into()),
        }
    }
    Ok(())
}

fn churn() -> Result<(), Failed> {
    cable()?;
    let mut others = Command::new("bash")
        .args(["-c", "while :; do
            ip netns add t; ip link add x netns a type veth peer name y netns t; ip -n t route add blackhole 192.0.2.0/24
            ip netns del t; ip -n a link del x; done 2>/dev/null"])
        .spawn()?;
    let mut result = Ok(());
    for _ in 0..60 {
        result = snapshot_of("a").and_then(|taken| {
            same(
                "the cable",
                taken.snapshot.namespaces.iter().filter(|netns| ["a", "b"].contains(&netns.name.as_str())).count(),
                2,
            )?;
            taken.again()?;
            Ok(())
        });
        if result.is_err() {
            break;
        }
    }
    others.kill()?;
    others.wait()?;
    result
}

fn everything() -> Result<(), Failed> {
    chain()?;
    let taken = take(&Request { reach: Reach::Everything, ..Request::default() })?;
    let names = names_of(&taken);
    same("names", ["a", "b", "c", "lone"].iter().all(|name| names.contains(name)), true)
}

/// The whole of it in a process without rights, which is this program again.
fn unprivileged() -> Result<(), Failed> {
    cable()?;
    let seen = std::thread::spawn(|| {
        // Only this thread loses its rights; threads that it starts have none either.
        caps::clear(None, caps::CapSet::Effective).map_err(|error| error.to_string())?;
        let own = take(&Request::default()).map_err(|error| error.to_string())?;
        let other = take(&Request { asked: Asked::parse("a"), ..Request::default() });
        Ok::<_, String>((own, other.err().map(|error| error.to_string())))
    });
    let (own, other) = seen.join().map_err(|_| "it panicked")??;
    // Those that may not be entered are there all the same, with nothing read of them.
    let (read, closed): (Vec<_>, Vec<_>) =
        own.snapshot.namespaces.iter().partition(|netns| !netns.unread.contains(&Part::Everything));
    let names = |namespaces: Vec<&Netns>| namespaces.iter().map(|netns| netns.name.clone()).collect::<Vec<_>>();
    same("read", names(read), vec![".".to_owned()])?;
    let closed = names(closed);
    same("closed", ["a", "b"].map(|name| closed.iter().any(|other| other == name)), [true, true])?;
    same("devices", own.snapshot.namespaces[0].link_by_name("lo").is_some(), true)?;
    same("gaps", own.snapshot.gaps.iter().any(|gap| gap.help.starts_with("run as root")), true)?;
    same("another namespace", other, Some("cannot enter netns a".to_owned()))
}
