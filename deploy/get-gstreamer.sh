#!/bin/sh
# Prints a folder with GStreamer's RTSP server and the few plugins that the tests need, unpacking Debian's packages
# into .gstreamer/ if it is not there (5 MB to fetch). Needs no root.
set -eu

project=$(cd "$(dirname "$0")/.." && pwd)
target="$project/.gstreamer"
packages="libgstrtspserver-1.0-0 libgstreamer1.0-0 libgstreamer-plugins-base1.0-0 gstreamer1.0-plugins-base
    gstreamer1.0-plugins-good liborc-0.4-0"
plugins="app coreelements videotestsrc videoconvertscale jpeg rtp rtpmanager udp tcp"

say() { printf '%s\n' "get-gstreamer: $*" >&2; }

whole() { # whether every library in $1 finds those that it needs
    [ -e "$1/libgstrtspserver-1.0.so.0" ] || return 1
    for file in "$1"/*.so.0 "$1"/plugins/*.so; do
        LD_LIBRARY_PATH=$1 ldd "$file" | grep 'not found' >&2 && return 1
    done
    return 0
}

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
    mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
    cp /var/lib/dpkg/status "$work/state/status" 2>/dev/null || : >"$work/state/status"
    lists=/var/lib/apt/lists
    if ! apt_here apt-cache show libgstrtspserver-1.0-0 2>/dev/null | grep -q '^Package: libgstrtspserver-1.0-0'; then
        lists="$work/state/lists"
        again apt_here apt-get update >&2 || { say "the package lists could not be fetched"; return 1; }
    fi
    # shellcheck disable=SC2086 # one word a package
    (cd "$work" && again apt_here apt-get download $packages >&2) || return 1
    for package in "$work"/*.deb; do
        dpkg -x "$package" "$work/unpacked" || return 1
    done
    unpacked=$(dirname "$(find "$work/unpacked" -name libgstrtspserver-1.0.so.0)")
    mkdir -p "$work/target/plugins"
    cp -P "$unpacked"/lib*.so.* "$work/target/"
    for plugin in $plugins; do
        cp "$unpacked/gstreamer-1.0/libgst$plugin.so" "$work/target/plugins/" || return 1
    done
    whole "$work/target" || return 1
    rm -rf "$target"
    mv "$work/target" "$target"
}

if whole "$target" 2>/dev/null; then
    printf '%s\n' "$target"
    exit 0
fi
if command -v apt-get >/dev/null && command -v dpkg >/dev/null && debian; then
    printf '%s\n' "$target"
    exit 0
fi
say "GStreamer's RTSP server could not be had here; the tests that need it are skipped"
exit 1
