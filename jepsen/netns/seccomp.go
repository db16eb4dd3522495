package netns

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets within struct seccomp_data of linux/seccomp.h; the low half of an argument on a
// little-endian machine.
const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16
	x32Bit     = 0x40000000 // numbers of the x32 ABI
)

// namespaceFlags are the words of RestrictNamespaces.
var namespaceFlags = map[string]uint32{
	"cgroup": unix.CLONE_NEWCGROUP, "ipc": unix.CLONE_NEWIPC, "net": unix.CLONE_NEWNET, "mnt": unix.CLONE_NEWNS,
	"pid": unix.CLONE_NEWPID, "user": unix.CLONE_NEWUSER, "uts": unix.CLONE_NEWUTS,
}

var familyNumbers = map[string]uint32{
	"AF_UNIX": unix.AF_UNIX, "AF_INET": unix.AF_INET, "AF_INET6": unix.AF_INET6, "AF_NETLINK": unix.AF_NETLINK, "AF_PACKET": unix.AF_PACKET,
}

var errnoNumbers = map[string]unix.Errno{"EPERM": unix.EPERM, "EACCES": unix.EACCES, "ENOSYS": unix.ENOSYS}

// filter compiles the seccomp program of a sandbox: one question after the other, because a
// jump reaches no more than 255 instructions.
func (s *Sandbox) filter() ([]bpf.RawInstruction, error) {
	numbers := map[string]uint32{}
	words := strings.Fields(syscallNumbers)
	for i := 0; i+1 < len(words); i += 2 {
		n, err := strconv.ParseUint(words[i+1], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("netns: number of %s: %w", words[i], err)
		}
		numbers[words[i]] = uint32(n)
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("netns: the numbers of system calls of this architecture are not known")
	}
	forbidden := ret(unix.SECCOMP_RET_KILL_PROCESS)
	if s.Errno != "" {
		number, ok := errnoNumbers[s.Errno]
		if !ok {
			return nil, fmt.Errorf("netns: SystemCallErrorNumber=%s is not known", s.Errno)
		}
		forbidden = fail(number)
	}
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: dataArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch, SkipTrue: 1}, forbidden,
		bpf.LoadAbsolute{Off: dataNumber, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: x32Bit, SkipTrue: 1}, forbidden,
	}
	checks, err := s.argumentChecks(numbers)
	if err != nil {
		return nil, err
	}
	p = append(p, checks...)
	if s.Syscalls == nil {
		return bpf.Assemble(append(p, ret(unix.SECCOMP_RET_ALLOW)))
	}
	for _, name := range s.Syscalls {
		if n, ok := numbers[name]; ok { // a group names calls of all architectures
			p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: n, SkipFalse: 1}, ret(unix.SECCOMP_RET_ALLOW))
		}
	}
	return bpf.Assemble(append(p, forbidden))
}

func ret(action uint32) bpf.Instruction { return bpf.RetConstant{Val: action} }
func fail(errno unix.Errno) bpf.Instruction {
	return ret(unix.SECCOMP_RET_ERRNO | uint32(errno))
}

// argumentChecks are refusals by an argument of a call; what passes them goes on to the list.
func (s *Sandbox) argumentChecks(numbers map[string]uint32) (p []bpf.Instruction, err error) {
	// when runs body, which has loaded the argument, for one call; the number is loaded after it.
	when := func(call string, argument uint32, body ...bpf.Instruction) {
		n, ok := numbers[call]
		if !ok {
			return
		}
		p = append(p, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: n, SkipTrue: uint8(len(body)) + 2}, bpf.LoadAbsolute{Off: dataArgs + 8*argument, Size: 4})
		p = append(append(p, body...), bpf.LoadAbsolute{Off: dataNumber, Size: 4})
	}
	if s.Families != nil {
		var body []bpf.Instruction
		for i, family := range s.Families {
			n, ok := familyNumbers[family]
			if !ok {
				return nil, fmt.Errorf("netns: RestrictAddressFamilies: %s is not known", family)
			}
			body = append(body, bpf.JumpIf{Cond: bpf.JumpEqual, Val: n, SkipTrue: uint8(len(s.Families) - i)})
		}
		when("socket", 0, append(body, fail(unix.EAFNOSUPPORT))...)
	}
	if s.NoNamespaces {
		var mask uint32
		for name, flag := range namespaceFlags {
			if !slices.Contains(s.Namespaces, name) {
				mask |= flag
			}
		}
		refuse := []bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: mask, SkipTrue: 1}, fail(unix.EPERM)}
		when("unshare", 0, refuse...)
		when("clone", 0, refuse...)
		when("setns", 1, append([]bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 1}, fail(unix.EPERM)}, refuse...)...)
		when("clone3", 0, fail(unix.ENOSYS)) // its flags are in memory; programs fall back to clone
	}
	if s.NoWX {
		const wx = unix.PROT_WRITE | unix.PROT_EXEC
		when("mmap", 2, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: wx}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: wx, SkipTrue: 1}, fail(unix.EPERM))
		for _, call := range []string{"mprotect", "pkey_mprotect"} {
			when(call, 2, bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: unix.PROT_EXEC, SkipTrue: 1}, fail(unix.EPERM))
		}
	}
	if s.Personality {
		when("personality", 0, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1}, fail(unix.EPERM))
	}
	return p, nil
}

// install puts a filter on the calling thread.
func install(program []bpf.RawInstruction) error {
	list := make([]unix.SockFilter, len(program))
	for i, in := range program {
		list[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	fprog := unix.SockFprog{Len: uint16(len(list)), Filter: &list[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&fprog)), 0, 0); err != nil {
		return fmt.Errorf("netns: system call filter: %w", err)
	}
	return nil
}
