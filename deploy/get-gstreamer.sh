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

. "$project/deploy/apt-here.sh"

debian() {
    apt_begin libgstrtspserver-1.0-0 || return 1
    # shellcheck disable=SC2086 # one word a package
    apt_unpack $packages || return 1
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
if debian; then
    printf '%s\n' "$target"
    exit 0
fi
say "GStreamer's RTSP server could not be had here; the tests that need it are skipped"
exit 1
