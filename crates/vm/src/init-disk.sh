#!/bin/busybox sh
# The first process of a guest whose system is on a disk: mounts it, leaves the command server and the caller's files in
# /run, and hands over to the system's own init. The disk itself gets nothing.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
/bin/busybox --install -s 2>/dev/null

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs -o mode=0755 devtmpfs /dev
mount -t tmpfs -o mode=0755 tmpfs /run
echo on >/proc/sys/kernel/printk_devkmsg
while read -r module; do insmod "$module" || echo "guest: cannot load $module"; done </etc/modules-load

tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 200 ]; do
    usleep 50000
    tries=$((tries + 1))
done
mkdir -p /system
mount -t ext4 /dev/vda /system || echo "guest: the disk cannot be mounted"

here=/run/livepatch-vm
mkdir -p $here/bin /run/log /run/pid /run/systemd/system/multi-user.target.wants
cp /bin/busybox /etc/serve $here/
$here/busybox --install -s $here/bin
[ -d /payload ] && cp -a /payload /run/
# Programs of the system go before those of busybox.
cat >/run/systemd/system/livepatch-vm.service <<END
[Unit]
Description=Command server of the virtual machine
[Service]
Environment=HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$here/bin
ExecStart=$here/busybox sh $here/serve
Restart=always
END
ln -s ../livepatch-vm.service /run/systemd/system/multi-user.target.wants/

umount /proc /sys
mount --move /dev /system/dev
mount --move /run /system/run
exec switch_root /system /sbin/init
