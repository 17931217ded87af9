# What the units of Debian's packages run: the lab has no systemd.
unit=$2
[ "$2" != -q ] || unit=$3
case "$1 $unit" in
'restart frr')
    /usr/lib/frr/frrinit.sh restart > "$LAB_LOGS/frr.log" 2>&1
    for _ in $(seq 100); do
        if vtysh -d bgpd -c 'show version' > /dev/null 2>&1; then exit 0; fi
        sleep 0.2
    done
    echo 'bgpd does not answer' >&2
    exit 1
    ;;
'is-active bird')
    birdc show status > /dev/null 2>&1
    ;;
'start bird' | 'restart bird')
    if birdc down > /dev/null 2>&1; then
        while birdc show status > /dev/null 2>&1; do sleep 0.1; done
    fi
    /usr/lib/bird/prepare-environment
    . /etc/bird/envvars
    bird -p || exit 1
    # The unit has -f: systemd starts it in the background.
    bird -u "$BIRD_RUN_USER" -g "$BIRD_RUN_GROUP" ${BIRD_ARGS-}
    ;;
'restart gobgpd')
    gobgpd -f /etc/gobgpd.conf -d > "$LAB_LOGS/gobgpd.log" 2>&1 || exit 1
    setsid gobgpd -f /etc/gobgpd.conf < /dev/null >> "$LAB_LOGS/gobgpd.log" 2>&1 &
    ;;
'restart openbgpd')
    mkdir -p /run/openbgpd
    bgpd -n || exit 1
    setsid bgpd -d < /dev/null > "$LAB_LOGS/openbgpd.log" 2>&1 &
    ;;
'reload openbgpd')
    bgpctl reload
    ;;
*)
    echo "systemctl $*: not in the lab" >&2
    exit 1
    ;;
esac
