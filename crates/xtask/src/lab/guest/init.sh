#!/bin/busybox sh
# The first process: mounts the root and hands over to lab.sh. Whatever fails here ends the machine; the second serial port goes to the
# host, see lab.sh.
#
# The root is a tmpfs with copies of the small folders, and /usr as an overlay over the image. A root that were one overlay could not
# hold the upper folder of another, and that is what container runtimes make under /var/lib.

export PATH=/bin
/bin/busybox --install -s /bin

fail() {
    echo "fail $*" >/dev/ttyS1
    poweroff -f
}

mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys

while read -r module; do
    insmod "/modules/$module" || fail "cannot load $module"
done </modules/order

mount -t erofs -o ro,dax /dev/pmem0 /image || fail "cannot mount the root image"
mount -t tmpfs -o mode=755,size=75% root /root
for path in /image/*; do
    name=${path#/image/}
    case $name in
        usr | lost+found) ;;
        *) cp -a "$path" /root/ ;;
    esac
done
# /run and /tmp need no mounts of their own: all is in memory, and what is copied there now stays in sight.
mkdir -p /root/dev /root/proc /root/sys /root/run /root/tmp /root/usr /root/.usr/upper /root/.usr/work
chmod 1777 /root/tmp
mount -t overlay -o lowerdir=/image/usr,upperdir=/root/.usr/upper,workdir=/root/.usr/work usr /root/usr || fail "cannot mount /usr"

for name in dev proc sys; do
    mount --move "/$name" "/root/$name"
done
cp -a /lab /root/.lab
cp -a /copy/. /root/ || fail "no room for the copies of the host's files"
exec switch_root /root /bin/busybox sh /.lab/lab.sh
fail "cannot change to the root"
