# Sourced by the get-*.sh: Debian's packages without root, and without changing anything of the system. Its lists,
# caches and state are in $work, a folder that goes with the script. The script has a `say`.

again() { "$@" || { say "trying once more"; sleep 2; "$@"; }; }

apt_here() { # a command of APT, with what it takes
    command=$1
    shift
    "$command" -qq \
        -o Dir::State="$work/state" -o Dir::State::Lists="$lists" -o Dir::State::status="$work/state/status" \
        -o Dir::Cache="$work/cache" -o Dir::Cache::archives="$work/cache/archives" \
        -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" "$@"
}

apt_begin() { # fetches the lists where the system's do not know the package $1; fails where there is no APT
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT INT TERM
    mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
    cp /var/lib/dpkg/status "$work/state/status" 2>/dev/null || : >"$work/state/status"
    lists=/var/lib/apt/lists
    if ! apt_here apt-cache show "$1" 2>/dev/null | grep -q "^Package: $1\$"; then
        lists="$work/state/lists"
        again apt_here apt-get update >&2 || { say "the package lists could not be fetched"; return 1; }
    fi
}

apt_missing() { # the packages that $* take and that are not installed, themselves included
    apt_here apt-get install --simulate --no-install-recommends "$@" | sed -n 's/^Inst \([^ ]*\).*/\1/p'
}

apt_unpack() { # fetches the packages $* and unpacks them into $work/unpacked
    (cd "$work" && again apt_here apt-get download "$@" >&2) || return 1
    for package in "$work"/*.deb; do
        dpkg -x "$package" "$work/unpacked" || return 1
    done
}
