#!/usr/bin/env bash
# Runs tests of the eBPF backend in Debian's kernels under qemu: ci/kernels/run.sh [SERIES ...]
#
# A series is the beginning of a version, by default 6.1 and 6.12. The file `checks` says what is run, README.md how it works.
# As root, on Debian; installs what it lacks. Everything is kept under target/kernels. CHECKS="programs hostile" runs those only.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")/kernels
# Seconds that a guest may take, and each check in it.
guest_seconds=${GUEST_SECONDS:-900}
check_seconds=${CHECK_SECONDS:-600}
series=("${@:-6.1}")
[ $# -gt 0 ] || series=(6.1 6.12)
cd "$root"

fail() {
    echo "kernels: $*" >&2
    exit 1
}

# What the rest needs.
tools() {
    local missing=() program
    [ "$(id -u)" -eq 0 ] || fail "root is needed: this machine's kernel is asked, too"
    for program in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio depmod:kmod xz:xz-utils nft:nftables \
        ip:iproute2 strip:binutils; do
        command -v "${program%%:*}" >/dev/null || missing+=("${program##*:}")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        echo "kernels: installing ${missing[*]}"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    fi
    if ldd "$(command -v busybox)" >/dev/null 2>&1; then
        fail "busybox is not static: the package busybox-static is missing"
    fi
}

# The newest of Debian's cloud kernels of a series, unpacked once; remove its folder for a newer one.
kernel() {
    local folder=$work/$1 package
    [ ! -f "$folder/modules.cpio" ] || return 0
    rm -rf "$folder"
    mkdir -p "$folder/tree"
    package=$(newest "$1")
    if [ -z "$package" ]; then
        apt-get update -qq
        package=$(newest "$1")
    fi
    [ -n "$package" ] || fail "apt offers no cloud kernel $1"
    echo "kernels: downloading $package"
    (cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "$package")
    dpkg-deb -x "$folder"/*.deb "$folder/tree"
    mv "$folder"/tree/boot/vmlinuz-* "$folder/vmlinuz"
    modules "$folder"
    rm -rf "$folder/tree" "$folder"/*.deb
}

newest() {
    apt-cache search --names-only "^linux-image-${1//./\\.}\.[0-9.+a-z-]*cloud-amd64\$" | cut -d' ' -f1 | sort -V | tail -n 1
}

# An archive of the modules that networking may need.
modules() {
    local from=$1/tree/lib/modules to=$1/root/lib/modules release part
    release=$(ls "$from")
    for part in net lib crypto drivers/net/veth.ko drivers/net/veth.ko.xz drivers/net/tun.ko drivers/net/tun.ko.xz; do
        [ -e "$from/$release/kernel/$part" ] || continue
        mkdir -p "$to/$release/kernel/$(dirname "$part")"
        cp -r "$from/$release/kernel/$part" "$to/$release/kernel/$part"
    done
    find "$to" -name '*.xz' -exec xz -d {} +
    cp "$from/$release"/modules.{builtin,builtin.modinfo,order} "$to/$release/"
    depmod -b "$1/root" "$release"
    archive "$1/root" "$1/modules.part"
    mv "$1/modules.part" "$1/modules.cpio"
    rm -rf "$1/root"
}

# archive FOLDER FILE: as the kernel unpacks it.
archive() {
    (cd "$1" && find . -print0 | sort -z | cpio --null --quiet --create --format=newc) >"$2"
}

# The lines of `checks`, without comments: those that CHECKS names, or else all but the long ones.
checks() {
    local line counted test
    sed 's/#.*//; /^[[:space:]]*$/d' "$here/checks" | while read -r line; do
        read -r _ counted _ test _ <<<"$line"
        if [ -n "${CHECKS:-}" ]; then
            [[ " $CHECKS " == *" $test "* ]] || continue
        elif [ "$counted" = long ]; then
            continue
        fi
        echo "$line"
    done
}

# Builds all test binaries at once, and writes the path of each to a file with the test's name.
build() {
    local arguments=() package test
    while read -r _ _ package test _; do
        arguments+=(-p "$package" --test "$test")
    done < <(checks)
    rm -rf "$work/binaries"
    mkdir -p "$work/binaries"
    cargo test --no-run --release --locked --all-features "${arguments[@]}" --message-format=json >"$work/messages"
    sed -n 's/.*"target":{"kind":\["test"\][^}]*"name":"\([^"]*\)".*"executable":"\([^"]*\)".*/\1 \2/p' "$work/messages" |
        while read -r test path; do
            echo "$path" >"$work/binaries/$test"
        done
}

# The archive that all guests share: busybox, the test binaries and what they call and read.
guest() {
    local tree=$work/guest test path file
    rm -rf "$tree"
    mkdir -p "$tree"/{bin,sbin,proc,sys,dev,tmp,lib64,tests}
    cp "$(command -v busybox)" "$tree/bin/busybox"
    # The kernel looks for it there when it wants a module.
    ln -s ../bin/busybox "$tree/sbin/modprobe"
    cp "$here/init" "$tree/init"
    for file in "$work"/binaries/*; do
        test=$(basename "$file")
        strip -o "$tree/tests/$test" "$(cat "$file")"
        libraries "$tree/tests/$test"
    done
    for file in nft ip; do
        path=$(realpath "$(command -v "$file")")
        cp "$path" "$tree/bin/$file"
        libraries "$path"
    done
    # Tests find their data where they were compiled.
    for file in crates/testkit/cases examples; do
        mkdir -p "$tree$root/$(dirname "$file")"
        cp -r "$root/$file" "$tree$root/$file"
    done
    mkdir -p "$tree$root/backends/ebpf"
    archive "$tree" "$work/guest.cpio"
}

# Copies the shared libraries of a program to where it looks for them.
libraries() {
    local library
    ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
        [ -e "$work/guest$library" ] || install -D "$library" "$work/guest$library"
    done
}

# folder PACKAGE: where its tests run.
folder() {
    case $1 in
    portcullis-testkit) echo "$root/crates/testkit" ;;
    *) echo "$root/backends/${1#portcullis-}" ;;
    esac
}

# What a check counted, and how it ended; on one processor the harness writes the test's name before.
counts() {
    sed -nE 's/^test [a-z0-9_:]+ \.\.\. //; s/; finished in .*//; /^([0-9]+ |[a-z]+ on the kernel: |test result: )/p' | sort
}

# The checks whose counts must be the same everywhere, on this machine.
host() {
    local counted package test rest words=()
    rm -rf "$work/host"
    mkdir -p "$work/host"
    echo "kernels: this machine, $(uname -r)"
    while read -r _ counted package test rest; do
        [ "$counted" = same ] || continue
        read -ra words <<<"$rest"
        split "${words[@]}"
        (cd "$(folder "$package")" &&
            env PORTCULLIS_KERNEL=required "${environment[@]}" "$(cat "$work/binaries/$test")" --nocapture "${filters[@]}") \
            >"$work/host/$test.log" 2>&1 || { cat "$work/host/$test.log"; fail "$test fails on this machine"; }
        counts <"$work/host/$test.log" | tee "$work/host/$test" | sed "s/^/  $test: /"
    done < <(checks)
}

# Splits words into environment and filters.
split() {
    environment=() filters=()
    local word
    for word in "$@"; do
        if [[ $word =~ ^[A-Z_]+= ]]; then environment+=("$word"); else filters+=("$word"); fi
    done
}

# boot SERIES: runs the checks in a kernel and judges what it prints.
boot() {
    local at=$work/$1 since package test rest words=() status=0 wanted=()
    mkdir -p "$at/list"
    while read -r since _ package test rest; do
        [ "$(printf '%s\n' "$since" "$1" | sort -V | head -n 1)" = "$since" ] || continue
        read -ra words <<<"$rest"
        split "${words[@]}"
        echo "check $test $check_seconds $(folder "$package") ${environment[*]} /tests/$test --nocapture ${filters[*]}"
        wanted+=("$test")
    done < <(checks) >"$at/list/checks.sh"
    archive "$at/list" "$at/list.cpio"
    cat "$work/guest.cpio" "$at/modules.cpio" "$at/list.cpio" >"$at/initramfs"
    # Without the mitigations, which cost an emulated processor far more than a real one.
    timeout "$guest_seconds" qemu-system-x86_64 -machine accel=tcg -m 2048 -smp 1 -display none -no-reboot -nic none \
        -serial "file:$at/serial" -kernel "$at/vmlinuz" -initrd "$at/initramfs" \
        -append 'console=ttyS0 quiet panic=-1 mitigations=off' </dev/null || status=$?
    tr -d '\r' <"$at/serial" >"$at/console"
    [ "$status" -eq 0 ] || problem "qemu ends with $status (124: it took more than $guest_seconds s)"
    sed -n '/guest: kernel/,/guest: done/{/./p}' "$at/console" | sed "s/^/  $1: /"
    grep -q '^guest: done$' "$at/console" || problem "the guest did not get to its end; see $at/console"
    ! grep -q '^guest: complaint' "$at/console" || problem "the kernel complains"
    ! grep -q 'SKIPPED' "$at/console" || problem "something was skipped"
    [ ${#wanted[@]} -gt 0 ] || problem "no check is for this kernel"
    for test in "${wanted[@]}"; do
        judge "$1" "$test"
    done
}

# judge SERIES TEST: it ended well, ran something, and counted what this machine counts.
judge() {
    local log=$work/$1/$2.log
    sed -n "/^guest: begin $2\$/,/^guest: end $2 /p" "$work/$1/console" >"$log"
    if ! grep -q "^guest: end $2 status 0 " "$log"; then
        problem "$2 failed, or was not run"
        return
    fi
    grep -qE '^test result: ok\. [1-9][0-9]* passed; 0 failed' "$log" || problem "$2 ran nothing"
    if [ -f "$work/host/$2" ] && ! counts <"$log" | diff "$work/host/$2" - >"$log.diff"; then
        problem "$2 counts other things than this machine:"
        cat "$log.diff"
    fi
}

problem() {
    echo "  PROBLEM: $*"
    problems=$((problems + 1))
}

tools
for one in "${series[@]}"; do
    kernel "$one"
done
build
guest
host
problems=0
for one in "${series[@]}"; do
    echo "kernels: $one"
    start=$SECONDS
    boot "$one"
    echo "kernels: $one took $((SECONDS - start)) s"
done
[ "$problems" -eq 0 ] || fail "$problems problems"
echo "kernels: all checks hold on ${series[*]}, after $SECONDS s"
