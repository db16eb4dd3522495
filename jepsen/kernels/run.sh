#!/bin/sh
# Debian's kernels under qemu, without KVM: the fence's and the lease's own tests, and what preflight says there.
# Needs root, the network, qemu-system-x86 and busybox-static; run by `make kernels`. Arguments: some of the
# versions below; none means all. FENCE_ARGS are for the fence's tests, as "-test.run TwoOwners|Killed". It never touches the host's network: the guest has no device but lo.
set -eu
here=$(pwd)/jepsen/kernels
bin=$(pwd)/bin/kernels
key=/usr/share/keyrings/debian-archive-keyring.gpg
limit=${KERNEL_LIMIT:-2400} # seconds for one guest
mkdir -p "$bin"

suite() { # of a version
	case $1 in
	5.10) echo "debian-security bullseye-security linux-image-amd64" ;;
	6.1) echo "debian-security bookworm-security linux-image-amd64" ;;
	6.12) echo "debian-security trixie-security linux-image-amd64" ;;
	*) echo "no suite is known for kernel $1; those that are: 5.10 6.1 6.12" >&2; exit 2 ;;
	esac
}

# fetch unpacks the kernel of a version into bin/kernels/VERSION, from a list of sources of its own.
fetch() {
	set -- "$1" $(suite "$1")
	dir=$bin/$1
	[ ! -e "$dir/boot" ] || return 0
	apt=$bin/apt-$1
	mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$dir"
	echo "deb [signed-by=$key] http://deb.debian.org/$2 $3 main" >"$apt/sources.list"
	options="-o Dir::Etc::sourcelist=$apt/sources.list -o Dir::Etc::sourceparts=- -o Dir::State::Lists=$apt/lists -o Dir::Cache=$apt -o APT::Sandbox::User=root -qq"
	apt-get $options update
	package=$(apt-cache $options depends "$4" | awk '/Depends:/ {print $2; exit}')
	(cd "$apt/archives" && apt-get $options download "$package" && dpkg -x "$package"_*.deb "$dir")
}

# initramfs packs the modules that the fence may need, busybox, and the tests.
initramfs() {
	dir=$bin/$1 root=$bin/root-$1
	release=$(ls "$dir/boot" | sed -n 's/^vmlinuz-//p')
	rm -rf "$root" && mkdir -p "$root/bin" "$root/sbin" "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/etc" "$root/lib/modules/$release"
	modules=$(ls -d "$dir/lib/modules/$release" "$dir/usr/lib/modules/$release" 2>/dev/null | head -1)
	(cd "$modules" && tar -cf - modules.builtin* modules.order kernel/net kernel/lib kernel/crypto kernel/arch/x86/crypto kernel/drivers/net/veth.ko* kernel/drivers/net/dummy.ko* 2>/dev/null) | tar -xf - -C "$root/lib/modules/$release"
	find "$root/lib/modules" -name '*.xz' -exec unxz {} +
	depmod -b "$root" "$release"
	cp /bin/busybox "$root/bin/busybox"
	ln -s /bin/busybox "$root/sbin/modprobe"
	install -m 0755 "$here/init" "$root/init"
	cp -r netdev/fence/testdata "$root/testdata"
	cp "$bin/havip-cluster" "$bin/fence.test" "$bin/lease.test" "$bin/shell.test" "$bin/acceptor.test" "$root/"
	echo "${FENCE_ARGS:-}" >"$root/fence.args"
	(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$bin/initramfs-$1"
}

# On a busy machine an emulated timer comes too late for the kernel's own check of it, which then panics: no_timer_check.
boot() {
	dir=$bin/$1
	timeout "$limit" nice -n 5 qemu-system-x86_64 -accel tcg -cpu max -smp 1 -m 1536 -nographic -no-reboot -nic none \
		-kernel "$(ls "$dir"/boot/vmlinuz-*)" -initrd "$bin/initramfs-$1" -append "console=ttyS0 panic=-1 quiet no_timer_check" </dev/null >"$bin/$1.log" 2>&1 || true
	sed -i 's/\r//g' "$bin/$1.log"
}

for t in fence:./netdev/fence lease:./failover/lease shell:./failover/lease/shell acceptor:./netdev/acceptor; do
	CGO_ENABLED=0 go test -c -o "$bin/${t%%:*}.test" "${t#*:}"
done
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$bin/havip-cluster" ./cmd/havip-cluster
failed=0
for version in ${*:-5.10 6.1 6.12}; do
	fetch "$version"
	initramfs "$version"
	boot "$version"
	echo "== $(sed -n 's/^KERNEL /kernel /p' "$bin/$version.log") (bin/kernels/$version.log)"
	grep -E '^ *(FAIL|WARN|OK|ok|!) .*(fence|kernel)|fence' "$bin/$version.log" | grep -v -E '^ *---' | head -5 || true
	grep -E '^SEEN FAIL' "$bin/$version.log" || true
	echo "skipped for the kernel's age: $(grep -c '^SEEN SKIP' "$bin/$version.log" || true) tests"
	grep -E '^RESULT ' "$bin/$version.log" || true
	grep -q '^DONE' "$bin/$version.log" || { echo "the guest did not come to its end"; failed=1; }
	! grep -qE '^RESULT (fence|lease|shell|acceptor) exit [1-9]' "$bin/$version.log" || failed=1
done
exit $failed
