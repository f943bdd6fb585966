//! Programs whose code was not recorded: XDP, cgroup and other BPF programs. They are missing, unless a stand-in is
//! wanted that does what was observed of them: the one that is named as the cause drops everything.

use crate::model::id::Device;

use super::Work;

/// Loads a program of two instructions: `r0 = VERDICT; exit`. Offsets are those of union bpf_attr.
const LOADER: &str = r#"python3 - <<'PY'
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
def bpf(cmd, attr):
    fd = libc.syscall(321, cmd, ctypes.create_string_buffer(attr.ljust(128, b"\0")), 128)
    assert fd >= 0, ctypes.get_errno()
    return fd
code = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xb7, 0, 0, VERDICT, 0x95, 0, 0, 0))
text = ctypes.create_string_buffer(b"GPL")
path = ctypes.create_string_buffer(b"PATH")
addr = ctypes.addressof
prog = bpf(5, struct.pack("<IIQQIIQII16sII", TYPE, 2, addr(code), addr(text), 0, 0, 0, 0, 0, b"stand_in", 0, ATTACH))
ATTACHING
PY"#;

/// Names what is missing, and puts stand-ins in place.
pub fn programs(work: &mut Work<'_>) {
    let cause = work.cause;
    let is_cause = |code: &str, device: Option<Device>| {
        cause.is_some_and(|finding| finding.code == code && (device.is_none() || finding.place.device() == device))
    };
    let mut places: Vec<(Device, String, String)> = Vec::new();
    for netns in work.namespaces() {
        for (device, link) in work.links(netns) {
            for program in &link.xdp {
                let name = program.name.clone().unwrap_or_else(|| format!("id {}", program.id));
                places.push((device, link.name.clone(), name));
            }
        }
    }
    for (device, link, name) in places {
        let what = format!("the XDP program {name} of {}", work.place(device));
        work.miss(Some(device), what.clone(), "its code was not recorded");
        if is_cause("xdp-drop", Some(device)) {
            work.script.comment(&format!("stands in for {what}, which was seen to drop"));
            work.script.line("mount -t bpf bpf /sys/fs/bpf");
            let pin = "bpf(6, struct.pack(\"<QI\", addr(path), prog))";
            load(work, "6", "1", "0", "/sys/fs/bpf/stand_in", pin);
            // Not `ip netns exec`, which would mount another /sys.
            let there = match work.script.name(device.netns) {
                "." => String::new(),
                netns => format!("nsenter --net=/run/netns/{netns} "),
            };
            work.script.line(&format!("{there}ip link set dev {link} xdp pinned /sys/fs/bpf/stand_in"));
            stood_in(work);
        }
    }
    let mut stands = false;
    for program in &work.snapshot.cgroup_programs {
        let name = program.name.clone().unwrap_or_else(|| format!("id {}", program.id));
        let what = format!("the BPF program {name} ({}) of cgroup {}", program.attach, program.cgroup);
        work.miss(None, what.clone(), "its code was not recorded");
        if stands {
            stood_in(work);
        } else if is_cause("cgroup-bpf-drop", None) && program.attach == "inet_egress" {
            stands = true;
            work.script.comment(&format!("stands in for {what}, which was seen to drop; ends with its process"));
            work.script.line("mount -t cgroup2 cgroup2 /sys/fs/cgroup");
            work.script.line("mount -t tmpfs stand-in /mnt");
            let attach = "import os, signal\n\
                mine = [l.strip().split(\"::\", 1)[1] for l in open(\"/proc/self/cgroup\") if l.startswith(\"0::\")][0]\n\
                group = os.open(\"/sys/fs/cgroup\" + mine, os.O_RDONLY)\n\
                link = bpf(28, struct.pack(\"<IIII\", prog, group, 1, 0))\n\
                if os.fork() == 0:\n    open(\"/mnt/pid\", \"w\").write(str(os.getpid()))\n    signal.pause()";
            load(work, "8", "0", "1", "", attach);
            work.script.line("for t in $(seq 50); do [ -s /mnt/pid ] && break; sleep 0.1; done");
            stood_in(work);
        }
    }
}

fn stood_in(work: &mut Work<'_>) {
    if let Some(missing) = work.missing.last_mut() {
        missing.stand_in = true;
    }
}

fn load(work: &mut Work<'_>, kind: &str, verdict: &str, attach: &str, path: &str, then: &str) {
    work.needs.extend(["cmd:python3".to_owned(), "config:BPF_SYSCALL".to_owned()]);
    let text = LOADER
        .replace("VERDICT", verdict)
        .replace("TYPE", kind)
        .replace("ATTACHING", then)
        .replace("ATTACH", attach)
        .replace("PATH", path);
    work.script.line(&text);
}
