#!/bin/busybox sh
# The guest's init: mounts, modules, network, then the command server. Ends only with the machine.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
/bin/busybox --install -s 2>/dev/null

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs -o mode=0755 devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=0755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
# Not in every kernel.
mount -t securityfs securityfs /sys/kernel/security 2>/dev/null
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
mkdir -p /run/log /run/pid

hostname guest
# Only the console is quiet about levels: everything up to "info" is shown, and user space may write as it likes.
echo on >/proc/sys/kernel/printk_devkmsg

if [ -e /etc/modules-load ]; then
    while read -r module; do insmod "$module" || echo "guest: cannot load $module"; done </etc/modules-load
fi

ip link set lo up
if [ -e /sys/class/net/eth0 ]; then
    ip address add 10.0.2.15/24 dev eth0
    ip link set eth0 up
    ip route add default via 10.0.2.2
fi

while :; do
    /etc/serve
    echo "guest: the command server ended; starting it again"
done
