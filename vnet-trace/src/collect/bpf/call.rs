//! bpf(2) as far as it is needed: three questions. Offsets are those of union bpf_attr and struct bpf_prog_info in
//! include/uapi/linux/bpf.h, which only ever grow at the end.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;

const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;

/// As much of union bpf_attr as any of the questions fills; the kernel takes missing bytes for zero.
const ATTR: usize = 64;
/// struct bpf_prog_info up to and with its name.
const INFO: usize = 80;
const INFO_NAME: usize = 64;

/// union bpf_attr, aligned as the kernel wants its 64-bit members.
#[repr(C, align(8))]
struct Attr([u8; ATTR]);

impl Attr {
    fn new(fields: &[(usize, &[u8])]) -> Self {
        let mut attr = Self([0; ATTR]);
        for (offset, bytes) in fields {
            if let Some(field) = attr.0.get_mut(*offset..offset + bytes.len()) {
                field.copy_from_slice(bytes);
            }
        }
        attr
    }
}

fn bpf(command: libc::c_int, attr: &mut Attr) -> io::Result<libc::c_int> {
    #[expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]
    // SAFETY: the kernel reads and writes at most ATTR bytes at the pointer, which are borrowed mutably for the call;
    // the addresses inside point to buffers that the callers below keep alive and give the sizes of.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), ATTR) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

/// A file descriptor of the program.
pub fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let fd = bpf(BPF_PROG_GET_FD_BY_ID, &mut Attr::new(&[(0, &id.to_ne_bytes())]))?;
    Ok(super::owned(fd))
}

/// The program's name, at most 15 bytes of it, as the kernel keeps it.
pub fn program_name(program: &OwnedFd) -> io::Result<String> {
    let mut info = [0_u8; INFO];
    let address = (info.as_mut_ptr() as u64).to_ne_bytes();
    let fd = program.as_raw_fd().to_ne_bytes();
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut Attr::new(&[(0, &fd), (4, &(INFO as u32).to_ne_bytes()), (8, &address)]))?;
    let name = info.get(INFO_NAME..).unwrap_or_default();
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(name.get(..end).unwrap_or_default()).into_owned())
}

/// Ids of the programs attached at `attach` (BPF_*) of a device's index or a cgroup's file descriptor.
pub fn programs_at(target: u32, attach: u32, most: usize) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; most];
    let address = (ids.as_mut_ptr() as u64).to_ne_bytes();
    let mut attr = Attr::new(&[
        (0, &target.to_ne_bytes()),
        (4, &attach.to_ne_bytes()),
        (16, &address),
        (24, &(most as u32).to_ne_bytes()),
    ]);
    bpf(BPF_PROG_QUERY, &mut attr)?;
    let count = attr.0.get(24..).and_then(<[u8]>::first_chunk).map_or(0, |count| u32::from_ne_bytes(*count));
    ids.truncate(count as usize);
    Ok(ids)
}
