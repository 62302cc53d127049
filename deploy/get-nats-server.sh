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

again() { "$@" || { say "trying once more"; sleep 2; "$@"; }; }

# APT with its lists, caches and state under $work, so that it needs no root and changes nothing of the system.
apt_here() {
    command=$1
    shift
    "$command" -qq \
        -o Dir::State="$work/state" -o Dir::State::Lists="$lists" -o Dir::State::status="$work/state/status" \
        -o Dir::Cache="$work/cache" -o Dir::Cache::archives="$work/cache/archives" \
        -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" "$@"
}

debian() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT INT TERM
    mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial" "$(dirname "$target")"
    cp /var/lib/dpkg/status "$work/state/status" 2>/dev/null || : >"$work/state/status"
    lists=/var/lib/apt/lists
    if ! apt_here apt-cache show nats-server 2>/dev/null | grep -q '^Package: nats-server'; then
        lists="$work/state/lists"
        again apt_here apt-get update >&2 || { say "the package lists could not be fetched"; return 1; }
    fi
    (cd "$work" && again apt_here apt-get download nats-server >&2) || return 1
    dpkg -x "$work"/nats-server_*.deb "$work/unpacked" || return 1
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
