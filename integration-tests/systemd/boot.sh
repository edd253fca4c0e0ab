# A systemd of its own, from this machine's /usr: first in the cgroup that is given, then in namespaces of
# its own. `boot.sh ROOT CGROUP PROGRAMS`; the second half runs as the first process of the namespaces.
set -euo pipefail
root=$1 cgroup=$2 programs=$3

if [[ -z ${INSIDE-} ]]; then
    for hierarchy in /sys/fs/cgroup/*/; do
        place=$hierarchy$cgroup
        mkdir -p "$place"
        # A fresh cpuset takes nobody before it has processors and memory.
        for setting in cpuset.cpus cpuset.mems; do
            [[ ! -e $place/$setting ]] || cat "$hierarchy$setting" >"$place/$setting"
        done
        echo $$ >"$place/cgroup.procs"
    done
    INSIDE=yes exec unshare --cgroup --mount --pid --net --uts --ipc --fork --kill-child --propagation slave \
        bash "$0" "$@"
fi

memory() { mount -t tmpfs -o "mode=$1" tmpfs "$2"; }
memory 755 "$root"
cd "$root"
mkdir -p usr etc/systemd/system etc/dbus-1 var/lib run tmp proc sys dev root opt/writ old
mount --rbind /usr usr
mount --make-rslave usr
mount -o remount,bind,ro usr
mount --bind "$programs" opt/writ
for link in bin sbin lib lib32 lib64 libx32; do
    [[ ! -L /$link ]] || cp --no-dereference "/$link" "$link"
done
cp /etc/ld.so.cache etc/
cp --recursive /etc/dbus-1/. etc/dbus-1/
ids() { grep -E "^(root|nobody|nogroup|messagebus|daemon):" "$1"; }
ids /etc/passwd >etc/passwd
ids /etc/group >etc/group
echo 0123456789abcdef0123456789abcdef >etc/machine-id

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
memory 755 sys/fs/cgroup
for hierarchy in /sys/fs/cgroup/*/; do
    name=$(basename "$hierarchy")
    mkdir "sys/fs/cgroup/$name"
    case $name in
        unified) mount -t cgroup2 cgroup2 "sys/fs/cgroup/$name" ;;
        systemd) mount -t cgroup -o none,name=systemd cgroup "sys/fs/cgroup/$name" ;;
        *) mount -t cgroup -o "$name" cgroup "sys/fs/cgroup/$name" ;;
    esac
done
memory 755 dev
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
memory 755 run
memory 1777 tmp

# No more than a bus, and nothing that wants what a namespace has not.
for unit in dev-hugepages.mount dev-mqueue.mount sys-fs-fuse-connections.mount sys-kernel-config.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount systemd-journald.service systemd-journald.socket \
    systemd-journald-dev-log.socket systemd-journald-audit.socket systemd-journal-flush.service; do
    ln -s /dev/null "etc/systemd/system/$unit"
done
cat >etc/systemd/system/stories.target <<'UNIT'
[Unit]
Requires=basic.target dbus.socket
After=basic.target dbus.socket
UNIT

pivot_root . old
umount --lazy /old
exec env --ignore-environment container=writ PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd \
    --unit=stories.target --log-target=console --show-status=no
