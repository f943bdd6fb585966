#!/bin/bash
# The guest's first process: mounts what a system has, runs /job, sends /out back as a tar on the disk, says how it ended.
export PATH=/usr/local/bin:/usr/bin HOME=/root LC_ALL=C
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t securityfs security /sys/kernel/security 2>/dev/null
mount -t tracefs tracing /sys/kernel/tracing 2>/dev/null
mount -t debugfs debug /sys/kernel/debug 2>/dev/null
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
ln -s /proc/self/fd /dev/fd 2>/dev/null
for module in virtio_pci virtio_blk tun br_netfilter; do modprobe -q "$module"; done
# A system has these; a fresh kernel does not, and labs say what they rely on.
ip link set lo up
hostname vm
echo "@@ready $(cut -d' ' -f1 /proc/uptime)"
bash /job </dev/null 2>&1
code=$?
tar -C /out -cf /dev/vda . 2>/dev/null
sync
echo "@@end $code"
poweroff -f
