# Starts zebra and bgpd with the configuration of the example; the container ends with bgpd.
set -e
mkdir -p /run/frr && chown frr:frr /run/frr
: > /etc/frr/vtysh.conf
/usr/lib/frr/zebra -d -A 127.0.0.1
/usr/lib/frr/bgpd -A 127.0.0.1 --log stdout &
until vtysh -d bgpd -c 'show version' >/dev/null 2>&1; do sleep 0.1; done
vtysh -f /example/ebgp.conf
wait
