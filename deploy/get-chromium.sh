#!/bin/sh
# Prints the path of a Chromium: the one on PATH, or Debian's, unpacked into .chromium/ with the libraries and a font
# that this machine lacks (100 MB to fetch). Needs no root.
set -eu

project=$(cd "$(dirname "$0")/.." && pwd)
target="$project/.chromium"

say() { printf '%s\n' "get-chromium: $*" >&2; }

. "$project/deploy/apt-here.sh"

works() { # whether $1 shows a page
    timeout 60 "$1" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$2" \
        --dump-dom 'data:text/html,<p>lit' 2>/dev/null | grep -q '<p>lit'
}

debian() {
    apt_begin chromium || return 1
    packages=$(apt_missing chromium fonts-dejavu-core)
    [ -n "$packages" ] || { say "APT does not know how to install it"; return 1; }
    # shellcheck disable=SC2086 # one word a package
    apt_unpack $packages || return 1
    made="$work/target"
    mkdir -p "$made/lib" "$made/fonts"
    mv "$work/unpacked/usr/lib/chromium" "$made/chromium"
    mkdir "$work/lib"
    find "$work/unpacked" -path '*-linux-gnu*' -name '*.so*' -exec cp -P {} "$work/lib/" \;
    for library in $(LD_LIBRARY_PATH="$work/lib" ldd "$made/chromium/chromium" | sed -n "s#.* => $work/lib/\([^ ]*\).*#\1#p") \
        libsoftokn3.so libfreebl3.so libfreeblpriv3.so libnssckbi.so; do
        cp -L "$work/lib/$library" "$made/lib/" 2>/dev/null || true
    done
    find "$made/chromium/locales" -type f ! -name 'en-US*' -delete
    find "$work/unpacked/usr/share/fonts" -name '*.ttf' -exec cp {} "$made/fonts/" \; 2>/dev/null || true
    printf '%s\n' '<?xml version="1.0"?>' '<fontconfig>' '<dir prefix="relative">fonts</dir>' \
        '<dir>/usr/share/fonts</dir>' '<cachedir prefix="xdg">fontconfig</cachedir>' '</fontconfig>' >"$made/fonts.conf"
    printf '%s\n' '#!/bin/sh' 'here=$(cd "$(dirname "$0")" && pwd)' \
        'LD_LIBRARY_PATH="$here/lib" FONTCONFIG_FILE="$here/fonts.conf" exec "$here/chromium/chromium" "$@"' \
        >"$made/run"
    chmod 755 "$made/run"
    works "$made/run" "$work/profile" || { say "what was unpacked does not run here"; return 1; }
    rm -rf "$target"
    mv "$made" "$target"
}

for name in chromium chromium-browser google-chrome google-chrome-stable; do
    command -v "$name" && exit 0
done
if [ -x "$target/run" ] || debian; then
    printf '%s\n' "$target/run"
    exit 0
fi
say "no Chromium could be had here; the tests that need it are skipped"
exit 1
