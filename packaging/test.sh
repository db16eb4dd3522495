#!/bin/sh
# The life of the package in a clean Debian root: built twice, installed, upgraded, removed, purged.
# Needs root, debootstrap and the network; run by `make packages-test`. With the word quick it takes the
# packages that are there. Last comes the life of three hosts with the packages of the version before and of now
# (jepsen/scenario, TestLifeOfPackages); BEFORE is the commit of the version before.
set -eu
bin=$(pwd)/bin
root=$bin/root
fail() { echo "FAIL: $*" >&2; exit 1; }
say() { echo "== $*"; }

if [ "${1:-}" != quick ]; then
	say "built twice: the same bytes"
	make -s packages >/dev/null
	rm -rf "$bin/packages.first" && cp -r "$bin/packages" "$bin/packages.first"
	make -s packages >/dev/null
	for f in "$bin"/packages/*; do
		cmp "$f" "$bin/packages.first/$(basename "$f")" || fail "$f differs from its first build"
	done
fi
deb=$(ls "$bin"/packages/*.deb)
rpm=$(ls "$bin"/packages/*.rpm)

say "contents"
dpkg-deb -c "$deb" >"$bin/deb.list"
for f in ./usr/bin/havip-cluster ./usr/lib/systemd/system/havip-cluster.service ./usr/share/man/man8/havip-cluster.8.gz ./usr/share/bash-completion/completions/havip-cluster ./etc/havip-cluster/agent.yaml; do
	grep -q " $f\$" "$bin/deb.list" || fail "$f is not in $deb"
done
rpm -qpl "$rpm" | grep -qx /usr/bin/havip-cluster || fail "the rpm lacks the program"

say "a clean root"
[ -x "$root/bin/sh" ] || debootstrap --variant=minbase bookworm "$root" >"$bin/debootstrap.log" 2>&1 || fail "debootstrap: see $bin/debootstrap.log"
! mountpoint -q "$root/proc" || umount "$root/proc" # debootstrap leaves it where no other one may be mounted
inside() { chroot "$root" "$@"; }
inside dpkg --purge havip-cluster >/dev/null 2>&1 || true
cp "$deb" "$root/tmp/havip.deb"

say "install"
inside dpkg -i /tmp/havip.deb | tee "$bin/install.log"
grep -q "havip-cluster bootstrap" "$bin/install.log" || fail "it does not say what to type"
inside havip-cluster --version
grep -q '^ExecStart=/usr/bin/havip-cluster agent --config /etc/havip-cluster/agent.yaml$' "$root/usr/lib/systemd/system/havip-cluster.service" || fail "the unit names another program"
inside havip-cluster bootstrap --node node-1 --advertise 10.77.0.11 >/dev/null
[ -d "$root/var/lib/havip-cluster" ] || fail "no data directory"

say "upgrade: settings and data stay"
echo "log: debug" >"$root/etc/havip-cluster/agent.yaml"
inside dpkg -i --force-confold /tmp/havip.deb >/dev/null
grep -qx "log: debug" "$root/etc/havip-cluster/agent.yaml" || fail "the settings are gone"
[ -e "$root/var/lib/havip-cluster/identity.json" ] || fail "the node is gone"

say "remove: the data stays; purge: nothing stays"
inside dpkg -r havip-cluster
[ -e "$root/var/lib/havip-cluster/identity.json" ] || fail "remove took the node's data"
[ ! -e "$root/usr/bin/havip-cluster" ] || fail "the program is left"
inside dpkg -P havip-cluster
for f in /var/lib/havip-cluster /etc/havip-cluster/agent.yaml /usr/share/man/man8/havip-cluster.8.gz; do
	[ ! -e "$root$f" ] || fail "$f is left"
done
say "lintian, rpmlint: what they say and is meant so is in packaging/lintian-overrides and packaging/rpmlint.toml"
said=$(lintian --tag-display-limit 0 --fail-on none "$deb" 2>/dev/null | grep '^[EW]:' || true)
[ -z "$said" ] || fail "lintian: $said"
said=$(rpmlint -c packaging/rpmlint.toml "$rpm" 2>&1 | grep -E ': [EW]: ' || true)
[ -z "$said" ] || fail "rpmlint: $said"

# The package of an earlier commit is built by that commit's own rules, from its files.
name=${BEFORE:-8f6a2350}
before=$(git rev-parse -q --verify --short=8 "$name^{commit}") || fail "$name is not here: git fetch --unshallow, or name another one by BEFORE"
if [ ! -e "$bin/before-$before.deb" ]; then
	say "the version before: $before"
	tree=$(mktemp -d "$bin/before.XXXXXX")
	trap 'rm -rf "$tree"' EXIT
	git archive "$before" | tar -xf - -C "$tree"
	time=$(TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ "$before")
	make -s -C "$tree" packages VERSION="0.0.0~0.$before" PACKAGE_VERSION="0.0.0~0.$before" PACKAGE_TIME="$time" >/dev/null || fail "the packages of $before"
	cp "$tree"/bin/packages/*.deb "$bin/before-$before.deb"
	rm -rf "$tree"
fi
say "three hosts: install, bootstrap, join, upgrade one node at a time, remove (bin/packages-life.log)"
rm -rf "$bin/life" && mkdir "$bin/life"
cp "$bin/before-$before.deb" "$bin/life/before.deb"
cp "$deb" "$bin/life/now.deb"
ln -s "$root" "$bin/life/root"
HAVIP_PACKAGES=$bin/life go test -count=1 -v -timeout 20m -run 'TestLifeOfPackages$' ./jepsen/scenario >"$bin/packages-life.log" 2>&1 || { tail -n 60 "$bin/packages-life.log"; fail "the life of the packages"; }
grep '== ' "$bin/packages-life.log"
grep -q '^--- PASS: TestLifeOfPackages' "$bin/packages-life.log" || fail "the life of the packages was not tried"
say "all well"
