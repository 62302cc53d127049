#!/bin/sh
# Prints the path of a nats-server (2.9 or newer), fetching one into .nats/ if there is none. Needs no root.
set -eu

project=$(cd "$(dirname "$0")/.." && pwd)
target="$project/.nats/nats-server"

say() { printf '%s\n' "get-nats-server: $*" >&2; }

usable() { # whether $1 runs and is 2.9 or newer
    version=$("$1" --version 2>/dev/null | sed -n 's/^nats-server: v\{0,1\}\([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
    [ -n "$version" ] || return 1
    major=${version% *} minor=${version#* }
    [ "$major" -gt 2 ] || { [ "$major" -eq 2 ] && [ "$minor" -ge 9 ]; }
}

found() { printf '%s\n' "$1"; exit 0; }

. "$project/deploy/apt-here.sh"

debian() {
    apt_begin nats-server || return 1
    apt_unpack nats-server || return 1
    mkdir -p "$(dirname "$target")"
    cp "$work/unpacked/usr/sbin/nats-server" "$target.new" && chmod 755 "$target.new" && mv "$target.new" "$target"
}

on_path=$(command -v nats-server || true)
[ -n "$on_path" ] && usable "$on_path" && found "$on_path"
[ -x "$target" ] && usable "$target" && found "$target"

if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
    if debian && usable "$target"; then
        found "$target"
    fi
elif command -v brew >/dev/null; then
    brewed="$(brew --prefix)/bin/nats-server"
    if again brew install nats-server >&2 && usable "$brewed"; then
        found "$brewed"
    fi
fi

say "no nats-server 2.9 or newer could be had here: install it from https://nats.io/download, or use a server that"
say "runs elsewhere with --nats nats://HOST:4222"
exit 1
