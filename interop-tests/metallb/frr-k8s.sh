#!/bin/sh
# The entrypoint of the lab's image of frr-k8s. The image has no FRR: the container runs Debian's FRR of
# the host, which is mounted at /host, with folders of its own.
set -eu
PATH=/bin
inside() { busybox chroot /host "$@"; }

for folder in etc/frr run/frr; do
  busybox mkdir -p /host/$folder
  busybox mount -t tmpfs tmpfs /host/$folder
done
busybox mkdir -p /host/run/frr/reloader /etc/frr_reloader
busybox mount -o bind /host/run/frr/reloader /etc/frr_reloader
busybox cp /frr-reloader.sh /host/run/frr/reloader/
echo 'service integrated-vtysh-config' > /host/etc/frr/vtysh.conf
echo 'log file /etc/frr/frr.log informational' > /host/etc/frr/frr.conf
inside /bin/chown -R frr:frr /etc/frr /run/frr

# As the manifest starts them: bgpd accepts no connections, so that nothing else needs port 179.
inside /usr/lib/frr/zebra -d -u frr -g frr -A 127.0.0.1 -s 90000000
inside /usr/lib/frr/bgpd -d -u frr -g frr -A 127.0.0.1 -p 0
inside /usr/lib/frr/bfdd -d -u frr -g frr -A 127.0.0.1
inside /usr/bin/env SHARED_VOLUME=/run/frr/reloader PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /bin/bash /run/frr/reloader/frr-reloader.sh &
exec /frr-k8s "$@"
