#!/bin/sh
# Makes sure that there is a Vulkan adapter: leaves one that works alone, else installs Mesa's software driver with the
# system's package manager and says so. macOS and Windows need none (Metal, Direct3D 12).
set -eu
cd "$(dirname "$0")/.."

case "$(uname -s)" in
Linux | FreeBSD) ;;
*) exit 0 ;;
esac

# Whether a loader and anything that calls itself a driver are installed: without them there is no need to ask.
have_files() {
    # ldconfig is not on every user's PATH.
    PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1' ||
        any_file /usr/lib*/libvulkan.so.1 /usr/lib/*/libvulkan.so.1 /lib/*/libvulkan.so.1 /usr/local/lib*/libvulkan.so.1 ||
        return 1
    [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] ||
        any_file /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json /usr/local/share/vulkan/icd.d/*.json \
            "${XDG_DATA_HOME:-${HOME:-}/.local/share}"/vulkan/icd.d/*.json
}

any_file() {
    for file in "$@"; do
        if [ -e "$file" ]; then return 0; fi
    done
    return 1
}

# Whether an adapter opens, as the tests see it; they need what this builds.
have_adapter() {
    have_files || return 1
    if [ -z "${built:-}" ]; then
        # All of them at once, so that no core waits.
        cargo test --no-run || exit 1
        built=yes
    fi
    answer=$(REPQUANT_REQUIRE_ADAPTER=1 cargo test --quiet --test main devices::every_listed_adapter_opens 2>&1)
}

if have_adapter; then
    exit 0
fi

root=""
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null 2>&1; then root="sudo"; else
        echo "No Vulkan adapter was found, and installing a driver needs root." >&2
        echo "As root, install Mesa's software driver (Debian, Ubuntu: apt-get install mesa-vulkan-drivers)," >&2
        echo "or run the tests without one: cargo test" >&2
        exit 1
    fi
fi

say() { echo "No Vulkan adapter was found; installing Mesa's software driver: $*"; }

with_apt() {
    # Debian 12's own Mesa (22.3) runs these kernels 5 to 7 times slower than the one in its backports. A list of our
    # own is used for this one call, so the system's sources stay as they are.
    if grep -q '^VERSION_CODENAME=bookworm' /etc/os-release 2>/dev/null; then
        work=$(mktemp -d)
        # Under sudo apt's files are not ours; and a folder that stays is no reason to fail.
        trap '$root rm -rf "$work" || true' EXIT
        mkdir -p "$work/lists/partial"
        chmod -R a+rX "$work"
        printf 'deb http://deb.debian.org/debian %s main\n' bookworm bookworm-backports >"$work/sources.list"
        options="-o Dir::Etc::SourceList=$work/sources.list -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists=$work/lists"
        say "mesa-vulkan-drivers and libvulkan1 from bookworm-backports"
        # shellcheck disable=SC2086
        if apt_get $options -qq update && apt_get $options -qq install -y --no-install-recommends \
            -t bookworm-backports mesa-vulkan-drivers libvulkan1; then
            return 0
        fi
        echo "The backports could not be used; trying the release's own, which is slower." >&2
    fi
    say "mesa-vulkan-drivers and libvulkan1 (apt-get)"
    apt_get -qq update
    apt_get -qq install -y --no-install-recommends mesa-vulkan-drivers libvulkan1
}

# sudo does not hand the environment on.
apt_get() { $root env DEBIAN_FRONTEND=noninteractive apt-get "$@"; }

if command -v apt-get >/dev/null 2>&1; then
    with_apt
elif command -v dnf >/dev/null 2>&1; then
    say "mesa-vulkan-drivers (dnf)"
    $root dnf install -y mesa-vulkan-drivers vulkan-loader
elif command -v pacman >/dev/null 2>&1; then
    say "vulkan-swrast (pacman)"
    $root pacman -Sy --noconfirm vulkan-swrast vulkan-icd-loader
elif command -v zypper >/dev/null 2>&1; then
    say "libvulkan_lvp (zypper)"
    $root zypper --non-interactive install libvulkan_lvp libvulkan1
elif command -v apk >/dev/null 2>&1; then
    say "mesa-vulkan-swrast (apk)"
    $root apk add mesa-vulkan-swrast vulkan-loader
else
    echo "No Vulkan adapter was found and no known package manager either; install Mesa's software driver (lavapipe)," >&2
    echo "or run the tests without one: cargo test" >&2
    exit 1
fi

if ! have_adapter; then
    echo "${answer:-}" >&2
    echo "Mesa's software driver was installed, yet the tests find no Vulkan adapter that opens. VK_DRIVER_FILES or" >&2
    echo "VK_ICD_FILENAMES may name another driver; \`cargo run -- devices\` lists what there is." >&2
    echo "To run the tests without an adapter: cargo test" >&2
    exit 1
fi
