#!/bin/sh
# A machine of its own for commands: `unshare --net --mount --propagation private sh other_root.sh FOLDER`.
#
# FOLDER/root is this machine's root, where everything may be written and nothing of it stays: an overlay in memory. It
# has two cameras, FIFOs to be fed, loopback alone, and names for it. It ends with its stdin.
set -e
memory=$1
mount -t tmpfs -o mode=755 tmpfs "$memory"
mkdir "$memory/upper" "$memory/work" "$memory/root" "$memory/dev"
mount -t overlay overlay -o "lowerdir=/,upperdir=$memory/upper,workdir=$memory/work" "$memory/root"
for tree in proc sys; do mount --rbind "/$tree" "$memory/root/$tree"; done

for device in null zero full random urandom tty; do
    touch "$memory/dev/$device"
    mount --bind "/dev/$device" "$memory/dev/$device"
done
mkdir -m 1777 "$memory/dev/shm"
for number in 0 1; do mkfifo "$memory/dev/video$number"; done
ln -s /proc/self/fd "$memory/dev/fd"
for stream in stdin:0 stdout:1 stderr:2; do ln -s "/proc/self/fd/${stream#*:}" "$memory/dev/${stream%:*}"; done
mount --rbind "$memory/dev" "$memory/root/dev"

ip link set lo up
cat >> "$memory/root/etc/hosts" <<'HOSTS'
127.0.0.1 hub example.com
127.0.0.3 gpu-box gpu-1
127.0.0.4 gpu-2
HOSTS
echo ready
exec cat > /dev/null
