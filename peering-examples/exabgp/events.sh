#!/bin/sh
# ExaBGP starts this program and writes events to its standard input, one JSON object per line. The program appends them
# to the file $EVENTS. It passes lines that are appended to the file $COMMANDS to ExaBGP as commands.
COMMANDS=${COMMANDS:-/run/exabgp-commands}
EVENTS=${EVENTS:-/var/log/exabgp-events.json}
touch "$COMMANDS"
tail -n 0 -F "$COMMANDS" 2>/dev/null &
# Not `exec`: ExaBGP considers a program dead when its output is closed.
cat >> "$EVENTS"
kill $!
