#!/bin/sh
# ExaBGP starts this and tells it what it learns. Each event, one JSON object per line, goes to the file $EVENTS; lines
# that are appended to the file $COMMANDS are handed to ExaBGP as commands.
COMMANDS=${COMMANDS:-/run/exabgp-commands}
EVENTS=${EVENTS:-/var/log/exabgp-events.json}
touch "$COMMANDS"
tail -n 0 -F "$COMMANDS" 2>/dev/null &
# Not `exec`: ExaBGP takes a program that closes its output for a dead one.
cat >> "$EVENTS"
kill $!
